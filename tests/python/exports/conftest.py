"""A reader of a migrated database, and the database beside it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def settings(migrated_database: str) -> Settings:
    # Patient: what a test is about is never the speed of the machine.
    return Settings(conninfo=migrated_database, timeout_seconds=60)


@pytest.fixture
async def analytics(settings: Settings) -> AsyncIterator[SessionAnalytics]:
    async with SessionStore(settings) as store:
        yield SessionAnalytics(store)


@pytest.fixture
def database(migrated_database: str) -> Iterator[Connection]:
    """A plain connection, in autocommit, for what another program does."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection
