"""A session store on a database of its own, and the database beside it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from fiml.sessions.store import SessionStore
from fiml.settings import Settings


@pytest.fixture
def settings(migrated_database: str) -> Settings:
    # Patient: what a test is about is never the speed of the machine.
    return Settings(conninfo=migrated_database, timeout_seconds=30)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[SessionStore]:
    async with SessionStore(settings) as opened:
        yield opened


@pytest.fixture
def database(migrated_database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A plain connection, in autocommit, for what another program does."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection
