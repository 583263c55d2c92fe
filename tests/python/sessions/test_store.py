import asyncio
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb
from sessions.proxy import BreakingProxy

from fiml.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    ErasedUserError,
    InvalidArgumentError,
    InvalidUserIdError,
    SchemaVersionError,
    SessionArchivedError,
    SessionNotFoundError,
    UnknownSessionTypeError,
)
from fiml.sessions import store as store_module
from fiml.sessions.migrations import migrate
from fiml.sessions.models import QueryRecord, Session, SessionType
from fiml.sessions.store import SessionStore, get_session_store
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

Database = psycopg.Connection[tuple[Any, ...]]
HALF_A_PAIR = "\ud800"
HOUR = timedelta(hours=1)


def query(query_type: str = "price", **members: object) -> QueryRecord:
    return QueryRecord(query_type=query_type, **members)


def value(database: Database, statement: str, *parameters: object) -> Any:
    row = database.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def history(database: Database, session_id: UUID) -> list[Any]:
    found = value(database, "select query_history from sessions where id = %s", session_id)
    assert isinstance(found, list)
    return found


def insert(database: Database, **columns: object) -> UUID:
    """A session as another program may write it: `columns` holds SQL values."""
    session_id = uuid4()
    columns = {"type": "equity", "expires_at": "2999-01-01", **columns}
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    database.execute(
        f"insert into sessions (id, {names}) values (%s, {places})",
        [session_id, *columns.values()],
    )
    return session_id


@pytest.fixture
def closed_store() -> SessionStore:
    """Refuses to ask the database anything: what is refused here is refused before that."""
    return SessionStore(Settings())


# Creating ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("user_id", ["", "a\0b", "x" * 256, HALF_A_PAIR, 5, b"analyst", True])
async def test_a_malformed_user_id_is_refused(closed_store: SessionStore, user_id: object) -> None:
    with pytest.raises(InvalidUserIdError):
        await closed_store.create_session(["AAPL"], "equity", user_id)  # type: ignore[arg-type]
    with pytest.raises(InvalidUserIdError):
        await closed_store.list_user_sessions(user_id)  # type: ignore[arg-type]


async def test_listing_everybodys_sessions_is_refused(closed_store: SessionStore) -> None:
    with pytest.raises(InvalidUserIdError):
        await closed_store.list_user_sessions(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("session_type", ["equities", "", "EQUITY", None, 5, ["equity"]])
async def test_an_unknown_session_type_is_refused_with_the_known_ones(
    closed_store: SessionStore, session_type: object
) -> None:
    with pytest.raises(
        UnknownSessionTypeError, match="equity, crypto, portfolio, comparative, macro"
    ):
        await closed_store.create_session(["AAPL"], session_type)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    ["AAPL", b"AAPL", 5, {"AAPL"}, {"AAPL": 1}, [""], ["x" * 256], ["a\0"], [HALF_A_PAIR], [None]],
)
async def test_assets_and_tags_must_be_lists_of_names(
    closed_store: SessionStore, names: object
) -> None:
    with pytest.raises(InvalidArgumentError, match="assets"):
        await closed_store.create_session(names, "equity")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="tags"):
        await closed_store.create_session([], "equity", tags=names)  # type: ignore[arg-type]


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, 87_601, True, "24", None, 10**400])
async def test_hours_must_be_above_zero_and_up_to_ten_years(
    closed_store: SessionStore, hours: object
) -> None:
    with pytest.raises(InvalidArgumentError, match="ttl_hours"):
        await closed_store.create_session([], "equity", ttl_hours=hours)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="hours"):
        await closed_store.extend_session(uuid4(), hours)  # type: ignore[arg-type]


async def test_the_longest_life_is_ten_years(store: SessionStore) -> None:
    created = await store.create_session([], "equity", ttl_hours=87_600)
    assert created.expires_at == created.created_at + 87_600 * HOUR


@pytest.mark.parametrize("session_id", ["", "not-an-id", 5, None, b"x" * 16])
async def test_what_is_no_session_id_is_refused(
    closed_store: SessionStore, session_id: Any
) -> None:
    spare = Session(type="equity")
    calls: list[Callable[[], Any]] = [
        lambda: closed_store.get_session(session_id),
        lambda: closed_store.update_session(session_id, spare),
        lambda: closed_store.add_query(session_id, query()),
        lambda: closed_store.extend_session(session_id),
        lambda: closed_store.delete_session(session_id),
        lambda: closed_store.archive_session(session_id),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="session_id"):
            await call()


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.0, "10", None])
async def test_a_limit_is_a_whole_number_up_to_a_thousand(
    closed_store: SessionStore, limit: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="limit"):
        await closed_store.list_user_sessions("analyst", limit=limit)


async def test_an_error_does_not_repeat_a_user_id(closed_store: SessionStore) -> None:
    with pytest.raises(InvalidUserIdError) as caught:
        await closed_store.create_session([], "equity", "secret-user\0")
    assert "secret-user" not in str(caught.value)


async def test_an_erased_user_gets_no_session(store: SessionStore, database: Database) -> None:
    database.execute("select analytics.erase_user('gone')")
    with pytest.raises(ErasedUserError):
        await store.create_session([], "equity", "gone")


# Reading ----------------------------------------------------------------------------------------


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


async def test_an_unknown_stored_type_is_read_as_its_text(
    store: SessionStore, database: Database
) -> None:
    stored = await store.get_session(insert(database, type="astrology"))
    assert stored is not None
    assert stored.type == "astrology"
    assert not isinstance(stored.type, SessionType)


GOOD = {"timestamp": "2024-05-01T12:00:00Z", "query_type": "price"}
ODD_ELEMENTS = [
    "5",
    '"text"',
    "null",
    "true",
    "[]",
    "{}",
    json.dumps({"query_type": "price"}),
    json.dumps({"timestamp": "2024-05-01T12:00:00Z"}),
    json.dumps(GOOD | {"timestamp": "2024-05-01T12:00:00"}),
    json.dumps(GOOD | {"timestamp": "yesterday"}),
    json.dumps(GOOD | {"timestamp": 1714564800}),
    json.dumps(GOOD | {"timestamp": "99999999999999999999"}),
    json.dumps(GOOD | {"query_type": ""}),
    json.dumps(GOOD | {"query_type": "x" * 256}),
    json.dumps(GOOD | {"query_type": 5}),
    json.dumps(GOOD | {"execution_time_ms": -1}),
    json.dumps(GOOD | {"execution_time_ms": "12"}),
    json.dumps(GOOD)[:-1] + ', "execution_time_ms": 1e130000}',
    json.dumps(GOOD)[:-1] + ', "parameters": {"n": ' + "9" * 5000 + "}}",
    json.dumps(GOOD)[:-1] + ', "result_summary": ' + "[" * 2000 + "]" * 2000 + "}",
    json.dumps(GOOD | {"cache_hit": "yes"}),
    json.dumps(GOOD | {"parameters": []}),
]


async def test_odd_history_elements_are_left_out_of_the_object_and_kept_in_the_database(
    store: SessionStore, database: Database
) -> None:
    elements = [*ODD_ELEMENTS, json.dumps(GOOD | {"unknown": 1, "id": "no-uuid"})]
    session_id = insert(database, query_history=f"[{','.join(elements)}]", total_queries=-3)
    before = value(database, "select query_history::text from sessions where id = %s", session_id)
    stored = await store.get_session(session_id)
    assert stored is not None
    assert [known.query_type for known in stored.state.history.queries] == ["price"]
    objects = sum(element.startswith("{") for element in elements)
    assert stored.state.history.total_queries == objects
    assert (await store.update_session(session_id, stored)).state == stored.state
    after = value(database, "select query_history::text from sessions where id = %s", session_id)
    assert after == before


async def test_a_history_that_is_no_array_is_read_as_empty_and_kept_beside_the_first_query(
    store: SessionStore, database: Database
) -> None:
    for stored_history in ("{}", '{"a": 1}', "null", "5", '"text"'):
        session_id = insert(database, query_history=stored_history)
        stored = await store.get_session(session_id)
        assert stored is not None
        assert stored.state.history.queries == []
        first, second = query(), query()
        await store.add_query(session_id, first)
        stored.add_query(second)
        updated = await store.update_session(session_id, stored)
        assert updated.state.history.queries == [first, second]
        assert updated.state.history.total_queries == 2
        kept = [] if stored_history == "null" else [[json.loads(stored_history)]]
        assert history(database, session_id)[:-2] == kept


async def test_a_time_that_python_does_not_have_is_read_as_its_nearest(
    store: SessionStore, database: Database
) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    moments = {"infinity": last, "200000-01-01": last, "4000-01-01 BC": first, "-infinity": first}
    for column in ("created_at", "expires_at", "last_accessed_at", "archived_at"):
        for moment, nearest in moments.items():
            stored = await store.get_session(insert(database, **{column: moment}))
            assert stored is not None
            assert getattr(stored, column) == nearest
            assert Session.from_dict(stored.to_dict()) == stored
            assert (await store.update_session(stored.id, stored)).created_at == stored.created_at


async def test_a_session_without_an_expiry_is_read_as_expired(
    store: SessionStore, database: Database
) -> None:
    stored = await store.get_session(insert(database, expires_at=None))
    assert stored is not None
    assert stored.expires_at is None
    assert stored.is_expired


async def test_an_odd_state_is_read_as_an_empty_one_and_kept_until_something_takes_its_place(
    store: SessionStore, database: Database
) -> None:
    for state in ("[]", "null", "5", '{"context": [1], "metadata": 7}'):
        odd = insert(database, state=state, user_id="", assets='{"a": 1}', tags='["b", 5, ""]')
        stored = await store.get_session(odd)
        assert stored is not None
        assert (stored.state.context, stored.state.metadata) == ({}, {})
        assert (stored.user_id, stored.assets, stored.tags) == ("", [], ["b"])
        await store.update_session(odd, stored)
        row = database.execute(
            "select state, assets, tags from sessions where id = %s", [odd]
        ).fetchone()
        assert row == (json.loads(state), {"a": 1}, ["b", 5, ""])
        stored.state.update_context("now", "here")
        assert (await store.update_session(odd, stored)).state.context == {"now": "here"}


# Updating ---------------------------------------------------------------------------------------


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


async def test_members_of_the_state_that_other_programs_keep_stay(
    store: SessionStore, database: Database
) -> None:
    session_id = insert(database, state='{"theirs": 1, "context": {"a": 1}}')
    session = await store.get_session(session_id)
    assert session is not None
    session.state.update_context("b", 2)
    await store.update_session(session_id, session)
    assert value(database, "select state from sessions") == {
        "theirs": 1,
        "context": {"a": 1, "b": 2},
    }


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


async def test_storing_what_was_loaded_doubles_nothing_that_has_no_id(
    store: SessionStore, database: Database
) -> None:
    elements = [GOOD, 5, GOOD | {"id": "no-uuid"}, GOOD | {"id": 7}, GOOD | {"id": str(uuid4())}]
    session_id = insert(database, query_history=Jsonb(elements))
    for _ in range(3):
        session = await store.get_session(session_id)
        assert session is not None
        assert len({record.id for record in session.state.history.queries}) == 4
        await store.update_session(session_id, session)
    assert history(database, session_id) == elements


async def test_an_update_never_makes_the_expiry_earlier(store: SessionStore) -> None:
    session = await store.create_session([], "equity", ttl_hours=2)
    extended = await store.extend_session(session.id, 5)
    assert (await store.update_session(session.id, session)).expires_at == extended.expires_at
    session.expires_at = None
    assert (await store.update_session(session.id, session)).expires_at == extended.expires_at


async def test_an_update_of_another_session_is_refused(store: SessionStore) -> None:
    one = await store.create_session([], "equity")
    other = await store.create_session([], "equity")
    with pytest.raises(InvalidArgumentError, match="id"):
        await store.update_session(one.id, other)
    with pytest.raises(InvalidArgumentError, match="expected a Session"):
        await store.update_session(one.id, {"id": str(one.id)})  # type: ignore[arg-type]
    one.created_at -= HOUR
    with pytest.raises(InvalidArgumentError, match="created_at"):
        await store.update_session(one.id, one)


async def test_an_update_with_malformed_names_is_refused(store: SessionStore) -> None:
    session = await store.create_session([], "equity")
    for change, error in [
        ({"type": "astrology"}, UnknownSessionTypeError),
        ({"user_id": ""}, InvalidUserIdError),
        ({"user_id": "x" * 256}, InvalidUserIdError),
    ]:
        with pytest.raises(error):
            await store.update_session(session.id, session.model_copy(update=change))
    session.assets.append("")
    with pytest.raises(InvalidArgumentError, match="assets"):
        await store.update_session(session.id, session)


async def test_what_json_cannot_hold_is_refused_before_anything_is_stored(
    store: SessionStore,
) -> None:
    created = await store.create_session([], "equity")
    for odd in ("a\0b", HALF_A_PAIR, math.nan, {1: 2}, datetime.now(UTC), {"\0": 1}):
        for members in ({"parameters": {"odd": odd}}, {"result_summary": [odd]}):
            with pytest.raises(InvalidArgumentError):
                await store.add_query(created.id, query(**members))
            session = created.model_copy(deep=True)
            session.add_query(query(**members))
            with pytest.raises(InvalidArgumentError):
                await store.update_session(created.id, session)
        for member in ("context", "preferences", "intermediate_results", "metadata"):
            session = created.model_copy(deep=True)
            getattr(session.state, member)["odd"] = odd
            with pytest.raises(InvalidArgumentError):
                await store.update_session(created.id, session)
    assert await store.get_session(created.id) == created


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


# Queries ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("odd", [None, {"query_type": "price"}, "price"])
async def test_what_is_no_query_record_is_refused(closed_store: SessionStore, odd: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a QueryRecord"):
        await closed_store.add_query(uuid4(), odd)


async def test_an_expired_session_takes_queries_until_it_is_archived(
    store: SessionStore, database: Database
) -> None:
    session_id = insert(database, expires_at="2024-05-01")
    await store.add_query(session_id, query())
    assert len(history(database, session_id)) == 1


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


# Extending, listing, deleting -------------------------------------------------------------------


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


async def test_concurrent_extensions_all_count(store: SessionStore) -> None:
    session = await store.create_session([], "equity", ttl_hours=1)
    assert session.expires_at is not None
    await asyncio.gather(*(store.extend_session(session.id, 1) for _ in range(10)))
    extended = await store.get_session(session.id)
    assert extended is not None
    assert extended.expires_at == session.expires_at + 10 * HOUR


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


# Starting and stopping --------------------------------------------------------------------------


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


def test_the_public_names_are_these() -> None:
    assert store_module.__all__ == ["SessionStore", "get_session_store"]
