"""Writes at once, repeated or cut off: none is lost, and none counts twice."""

import asyncio
import random

import pytest
from sessions.examples import value
from sessions.proxy import BreakingProxy
from sessions.store.rows import HOUR, Database, history, query

from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


async def test_the_same_record_added_again_stays_single(
    store: SessionStore, database: Database
) -> None:
    session = await store.create_session([], "equity")
    record = query()
    await asyncio.gather(*(store.add_query(session.id, record) for _ in range(5)))
    session.add_query(record)
    session.add_query(record)
    await store.update_session(session.id, session)
    assert len(history(database, session.id)) == 1
    assert value(database, "select total_queries from sessions") == 1
    await store.archive_session(session.id)
    await store.add_query(session.id, record)


async def test_of_concurrent_queries_none_is_lost(store: SessionStore, database: Database) -> None:
    session = await store.create_session([], "equity")
    records = [query(parameters={"n": n}) for n in range(60)]
    await asyncio.gather(*(store.add_query(session.id, record) for record in records))
    stored = await store.get_session(session.id)
    assert stored is not None
    found = {record.id for record in stored.state.history.queries}
    assert found == {record.id for record in records}
    assert value(database, "select total_queries from sessions") == 60


async def test_updates_and_queries_at_once_lose_none(
    store: SessionStore, database: Database
) -> None:
    session = await store.create_session([], "equity")
    records = [query(parameters={"n": n}) for n in range(60)]
    copies = [session.model_copy(deep=True) for _ in range(20)]
    for copy, mine in zip(copies, records[40:], strict=True):
        copy.add_query(mine)
        copy.add_query(records[0])
    calls = [store.add_query(session.id, record) for record in records[:40]]
    calls += [store.update_session(session.id, copy) for copy in copies]  # type: ignore[misc]
    random.Random(1).shuffle(calls)
    await asyncio.gather(*calls)
    stored = [element["id"] for element in history(database, session.id)]
    assert sorted(stored) == sorted(str(record.id) for record in records)
    assert value(database, "select total_queries from sessions") == 60


async def test_concurrent_extensions_all_count(store: SessionStore) -> None:
    session = await store.create_session([], "equity", ttl_hours=1)
    assert session.expires_at is not None
    await asyncio.gather(*(store.extend_session(session.id, 1) for _ in range(10)))
    extended = await store.get_session(session.id)
    assert extended is not None
    assert extended.expires_at == session.expires_at + 10 * HOUR


async def test_a_connection_that_breaks_after_the_write_makes_nothing_twice(
    settings: Settings, database: Database
) -> None:
    async with BreakingProxy(settings.conninfo) as proxy:
        through = Settings(conninfo=proxy.conninfo, timeout_seconds=30)
        async with SessionStore(through) as store:
            proxy.break_at = b"INSERT 0 1"
            session = await store.create_session(["AAPL"], "equity")
            assert proxy.broken == 1
            assert database.execute("select id from sessions").fetchall() == [(session.id,)]

            record = query()
            proxy.break_at = b"UPDATE 1"
            await store.add_query(session.id, record)
            assert proxy.broken == 2
            session.add_query(query("news"))
            proxy.break_at = b"COMMIT"
            updated = await store.update_session(session.id, session)
            assert proxy.broken == 3
            kinds = [known.query_type for known in updated.state.history.queries]
            assert kinds == ["price", "news"]
            assert value(database, "select total_queries from sessions") == 2
