"""A migrated database, and a plain connection to it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fiml.settings import Settings


@pytest.fixture
def settings(migrated_database: str) -> Settings:
    return Settings(conninfo=migrated_database)


@pytest.fixture
def database(settings: Settings) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection
