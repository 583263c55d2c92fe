"""A migrated database, an alert file and servers for each test."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alerts.world import Connection, File, Mailbox, Receiver, mailing, receiving

from fiml.settings import Settings


@pytest.fixture
def database(migrated_database: str) -> Iterator[Connection]:
    """A connection of the application's, in autocommit."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "alerts.yml")


@pytest.fixture
def settings(migrated_database: str, file: File) -> Settings:
    # Patient: what a test is about is never the speed of the machine.
    return Settings(conninfo=migrated_database, timeout_seconds=30, alerts_file=file.path)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailing() as made:
        yield made
