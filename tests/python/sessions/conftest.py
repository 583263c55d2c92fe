"""A store and a reader on a database of their own, and the database beside them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
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
def analytics(store: SessionStore) -> SessionAnalytics:
    return SessionAnalytics(store._session_maker)


@pytest.fixture
def closed() -> SessionAnalytics:
    """Nobody answers there, and nobody ever connected."""
    return SessionAnalytics(Database(Settings(conninfo="host=127.0.0.1 port=1 user=nobody")))


@pytest.fixture
def database(migrated_database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A plain connection, in autocommit, for what another program does."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection
