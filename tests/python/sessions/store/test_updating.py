"""What an update or a query changes, what it leaves alone, and what cannot be changed."""

from datetime import UTC, datetime

import pytest
from sessions.examples import value
from sessions.store.rows import Database, history, insert, query

from fiml.errors import SessionArchivedError, SessionNotFoundError
from fiml.sessions.models import Session
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio


async def test_an_update_stores_what_was_changed(store: SessionStore) -> None:
    session = await store.create_session(["AAPL"], "equity", "analyst", tags=["a"])
    session.state.update_context("focus", {"growth": [1, 2.5, None, "é"]})
    session.state.store_intermediate_result("screen", ["AAPL"])
    session.state.preferences["size"] = 10**30
    session.state.metadata["source"] = "test"
    session.assets.append("MSFT")
    session.tags = ["b", "b"]
    session.type = "crypto"
    session.user_id = "another"
    session.extend(3)
    session.add_query(query(parameters={"symbol": "AAPL"}, execution_time_ms=3.5))
    updated = await store.update_session(session.id, session)
    assert updated.last_accessed_at > session.created_at
    session.last_accessed_at = updated.last_accessed_at
    assert updated == session
    assert await store.get_session(session.id) == updated
    updated.state.context.pop("focus")
    assert (await store.update_session(session.id, updated)).state.context == {}


async def test_an_update_never_removes_or_changes_a_stored_query(
    store: SessionStore, database: Database
) -> None:
    session = await store.create_session(["AAPL"], "equity")
    stored = [query(parameters={"n": n}) for n in range(3)]
    for record in stored:
        await store.add_query(session.id, record)
    session.state.history.queries = [
        query(id=stored[1].id, parameters={"n": "forged"}),
        query("news"),
    ]
    updated = await store.update_session(session.id, session)
    assert updated.state.history.queries[:3] == stored
    assert [record.query_type for record in updated.state.history.queries[3:]] == ["news"]
    assert updated.state.history.total_queries == 4
    assert value(database, "select total_queries from sessions") == 4


async def test_an_update_never_makes_the_expiry_earlier(store: SessionStore) -> None:
    session = await store.create_session([], "equity", ttl_hours=2)
    extended = await store.extend_session(session.id, 5)
    assert (await store.update_session(session.id, session)).expires_at == extended.expires_at
    session.expires_at = None
    assert (await store.update_session(session.id, session)).expires_at == extended.expires_at


async def test_a_query_is_stored_as_it_was_made(store: SessionStore) -> None:
    session = await store.create_session([], "equity")
    record = query(
        "' \\ é",
        timestamp=datetime(1, 1, 1, tzinfo=UTC),
        parameters={"a": [1, None, {"b": "\n"}]},
        result_summary="done",
        execution_time_ms=0.125,
        cache_hit=True,
    )
    await store.add_query(session.id, record)
    stored = await store.get_session(session.id)
    assert stored is not None
    assert stored.state.history.queries == [record]
    assert stored.state.history.total_queries == 1
    assert stored.last_accessed_at > session.last_accessed_at


async def test_an_expired_session_takes_queries_until_it_is_archived(
    store: SessionStore, database: Database
) -> None:
    session_id = insert(database, expires_at="2024-05-01")
    await store.add_query(session_id, query())
    assert len(history(database, session_id)) == 1


async def test_a_count_of_queries_stops_at_what_the_column_holds(
    store: SessionStore, database: Database
) -> None:
    session_id = insert(database, total_queries=2147483647)
    await store.add_query(session_id, query())
    session = await store.get_session(session_id)
    assert session is not None
    session.add_query(query())
    await store.update_session(session_id, session)
    assert value(database, "select total_queries from sessions") == 2147483647
    assert len(history(database, session_id)) == 2


async def test_a_session_that_is_not_there_cannot_be_changed(store: SessionStore) -> None:
    missing = Session(type="equity")
    with pytest.raises(SessionNotFoundError):
        await store.update_session(missing.id, missing)
    with pytest.raises(SessionNotFoundError):
        await store.add_query(missing.id, query())
    with pytest.raises(SessionNotFoundError):
        await store.extend_session(missing.id)
    assert not await store.archive_session(missing.id)
    assert not await store.delete_session(missing.id)


async def test_an_archived_session_cannot_be_changed(store: SessionStore) -> None:
    session = await store.create_session([], "equity")
    await store.archive_session(session.id)
    stored = await store.get_session(session.id)
    with pytest.raises(SessionArchivedError):
        await store.update_session(session.id, session)
    with pytest.raises(SessionArchivedError):
        await store.add_query(session.id, query())
    with pytest.raises(SessionArchivedError):
        await store.extend_session(session.id)
    assert await store.get_session(session.id) == stored
