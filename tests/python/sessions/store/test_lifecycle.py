"""A session is created, read, extended, listed and deleted."""

from datetime import timedelta
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from sessions.examples import value
from sessions.store.rows import HOUR, Database, insert, query

from fiml.errors import ErasedUserError, InvalidArgumentError
from fiml.sessions.models import SessionType
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio


async def test_a_created_session_is_stored_as_it_is_returned(store: SessionStore) -> None:
    created = await store.create_session(
        ["AAPL", "MSFT", "AAPL"], SessionType.COMPARATIVE, "analyst", 2.5, ["tech", "tech", "b"]
    )
    assert created.assets == ["AAPL", "MSFT"]
    assert created.tags == ["tech", "b"]
    assert created.type is SessionType.COMPARATIVE
    assert created.user_id == "analyst"
    assert created.id.version == 7
    assert created.expires_at == created.created_at + 2.5 * HOUR
    assert created.last_accessed_at == created.created_at
    assert not created.is_archived
    assert await store.get_session(created.id) == created
    assert await store.get_session(str(created.id)) == created


async def test_a_session_needs_no_more_than_assets_and_type(store: SessionStore) -> None:
    created = await store.create_session((), "macro")
    assert (created.assets, created.tags, created.user_id) == ([], [], None)
    assert created.expires_at == created.created_at + 24 * HOUR


async def test_creation_is_dated_by_the_clock_of_the_database(
    store: SessionStore, database: Database
) -> None:
    before = value(database, "select clock_timestamp()")
    created = await store.create_session(["AAPL"], "equity")
    assert before <= created.created_at <= value(database, "select clock_timestamp()")


async def test_names_are_stored_byte_for_byte(store: SessionStore) -> None:
    names = [" AAPL ", "aapl", "é", "e\u0301", "'; drop table sessions; --", "\n", "x" * 255, "\\"]
    created = await store.create_session(names, "equity", names[4], tags=names)
    stored = await store.get_session(created.id)
    assert stored is not None
    assert (stored.assets, stored.tags, stored.user_id) == (names, names, names[4])


async def test_the_longest_life_is_ten_years(store: SessionStore) -> None:
    created = await store.create_session([], "equity", ttl_hours=87_600)
    assert created.expires_at == created.created_at + 87_600 * HOUR


async def test_an_erased_user_gets_no_session(store: SessionStore, database: Database) -> None:
    database.execute("select analytics.erase_user('gone')")
    with pytest.raises(ErasedUserError):
        await store.create_session([], "equity", "gone")


async def test_a_session_that_is_not_there_is_none(store: SessionStore) -> None:
    assert await store.get_session(uuid4()) is None


async def test_reading_a_session_changes_nothing_of_it(
    store: SessionStore, database: Database
) -> None:
    created = await store.create_session(["AAPL"], "equity")
    version = "select xmin::text || ctid::text from sessions where id = %s"
    before = value(database, version, created.id)
    await store.get_session(created.id)
    await store.list_user_sessions("analyst")
    assert value(database, version, created.id) == before


async def test_an_archived_session_can_still_be_read(store: SessionStore) -> None:
    created = await store.create_session(["AAPL"], "equity")
    await store.add_query(created.id, query())
    await store.archive_session(created.id)
    stored = await store.get_session(created.id)
    assert stored is not None
    assert stored.is_archived
    assert stored.archived_at is not None
    assert len(stored.state.history.queries) == 1


async def test_extending_counts_from_the_later_of_now_and_the_expiry(
    store: SessionStore, database: Database
) -> None:
    session = await store.create_session([], "equity", ttl_hours=2)
    assert session.expires_at is not None
    extended = await store.extend_session(session.id, 1.5)
    assert extended.expires_at == session.expires_at + 1.5 * HOUR
    assert await store.get_session(session.id) == extended
    for expiry in ("2024-05-01", None, "-infinity"):
        revived = await store.extend_session(insert(database, expires_at=expiry), 1)
        assert timedelta(minutes=59) < revived.time_remaining <= HOUR


async def test_a_users_sessions_are_listed_newest_first(store: SessionStore) -> None:
    created = [await store.create_session([f"S{n}"], "equity", "analyst") for n in range(5)]
    await store.create_session(["OTHER"], "equity", "another")
    await store.create_session(["NOBODY"], "equity")
    await store.add_query(created[3].id, query())
    await store.archive_session(created[1].id)
    listed = await store.list_user_sessions("analyst")
    assert [summary.assets for summary in listed] == [["S4"], ["S3"], ["S2"], ["S0"]]
    assert [summary.total_queries for summary in listed] == [0, 1, 0, 0]
    everything = await store.list_user_sessions("analyst", include_archived=True)
    assert [summary.id for summary in everything] == [made.id for made in reversed(created)]
    assert [summary.is_archived for summary in everything] == [False, False, False, True, False]
    newest = await store.list_user_sessions("analyst", include_archived=True, limit=2)
    assert [summary.assets for summary in newest] == [["S4"], ["S3"]]
    assert await store.list_user_sessions("nobody") == []
    with pytest.raises(InvalidArgumentError, match="include_archived"):
        await store.list_user_sessions("analyst", include_archived=1)  # type: ignore[arg-type]


async def test_a_deleted_session_leaves_nothing_behind(
    store: SessionStore, database: Database
) -> None:
    session = await store.create_session([], "equity", "analyst")
    other = await store.create_session([], "equity", "analyst")
    await store.archive_session(session.id)
    await store.archive_session(other.id)
    assert await store.delete_session(session.id)
    assert not await store.delete_session(session.id)
    assert await store.get_session(session.id) is None
    assert database.execute("select session_id from session_metrics").fetchall() == [(other.id,)]


async def test_deleting_takes_metrics_without_a_session_and_what_was_set_aside(
    store: SessionStore, database: Database
) -> None:
    session_id = uuid4()
    database.execute(
        "select analytics.record_session_metrics(%s, %s)",
        [session_id, Jsonb({"type": "equity", "created_at": "2024-05-01T00:00:00Z"})],
    )
    database.execute(
        "insert into analytics.quarantine (fact, session_id, reason) values ('archival', %s, '')",
        [session_id],
    )
    assert await store.delete_session(session_id)
    assert value(database, "select count(*) from session_metrics") == 0
    assert value(database, "select count(*) from analytics.quarantine") == 0
