"""Opening and closing a store, and the one that every event loop has."""

import asyncio
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo
from sessions.store.rows import query

from fiml.errors import DatabaseError, DatabaseUnavailableError, SchemaVersionError
from fiml.sessions import store as store_module
from fiml.sessions.migrations import migrate
from fiml.sessions.store import SessionStore, get_session_store
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


async def test_the_session_maker_is_the_database(store: SessionStore) -> None:
    assert type(store._session_maker).__name__ == "Database"


async def test_initialising_twice_or_at_once_is_once(settings: Settings) -> None:
    store = SessionStore(settings)
    assert not store.is_open
    await asyncio.gather(*(store.initialize() for _ in range(5)))
    pool = store._session_maker._pool
    await store.initialize()
    assert store._session_maker._pool is pool
    assert store.is_open
    await store.shutdown()
    await store.shutdown()
    assert not store.is_open
    async with store:
        await store.create_session([], "equity")


async def test_a_store_that_is_not_initialised_says_so(settings: Settings) -> None:
    with pytest.raises(DatabaseError, match="initialize"):
        await SessionStore(settings).get_session(uuid4())


async def test_a_store_of_a_database_without_our_tables_does_not_start(empty_database: str) -> None:
    with pytest.raises(SchemaVersionError, match="session-analytics migrate"):
        await SessionStore(Settings(conninfo=empty_database)).initialize()


async def test_the_tables_may_live_in_another_schema(empty_database: str) -> None:
    schema = 'my "own" schema'
    migrate(empty_database, schema)
    async with SessionStore(Settings(conninfo=empty_database, source_schema=schema)) as store:
        session = await store.create_session(["AAPL"], "equity", "analyst")
        await store.add_query(session.id, query())
        session.add_query(query())
        await store.update_session(session.id, session)
        await store.extend_session(session.id)
        assert len(await store.list_user_sessions("analyst")) == 1
        assert await store.archive_session(session.id)
        assert await store.archive_expired_sessions() == 0
        assert await store.delete_session(session.id)


@pytest.fixture
def environment(migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", migrated_database)
    monkeypatch.setenv("SESSION_ANALYTICS_TIMEOUT_SECONDS", "30")


@pytest.mark.usefixtures("environment")
async def test_concurrent_first_calls_get_one_store() -> None:
    stores = await asyncio.gather(*(get_session_store() for _ in range(10)))
    async with stores[0] as store:
        assert all(other is store for other in stores)
        assert await get_session_store() is store
        assert await store.get_session(uuid4()) is None


@pytest.mark.usefixtures("environment")
async def test_after_a_shutdown_there_is_a_new_store() -> None:
    first = await get_session_store()
    await first.shutdown()
    async with await get_session_store() as second:
        assert second is not first
        assert await second.get_session(uuid4()) is None


async def test_a_start_that_failed_is_not_remembered(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = make_conninfo(migrated_database, host="127.0.0.1", port=1)
    monkeypatch.setenv("DATABASE_URL", nowhere)
    with pytest.raises(DatabaseUnavailableError):
        await get_session_store()
    monkeypatch.setenv("DATABASE_URL", migrated_database)
    async with await get_session_store() as store:
        assert store.is_open


@pytest.mark.usefixtures("environment")
async def test_a_first_caller_that_is_cancelled_leaves_a_store_to_the_others() -> None:
    first = asyncio.create_task(get_session_store())
    second = asyncio.create_task(get_session_store())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with await second as store:
        assert store.is_open


@pytest.mark.usefixtures("environment")
def test_every_event_loop_has_a_store_of_its_own() -> None:
    stores = []

    async def use() -> None:
        async with await get_session_store() as store:
            stores.append(store)
            assert await store.get_session(uuid4()) is None

    asyncio.run(use())
    asyncio.run(use())
    assert stores[0] is not stores[1]
    # What belonged to the first loop is not kept for ever.
    assert sum(loop.is_closed() for loop in store_module._slots) <= 1


def test_the_public_names_are_these() -> None:
    assert store_module.__all__ == ["SessionStore", "get_session_store"]
