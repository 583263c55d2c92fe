"""Whatever other programs stored is read as well as it can be, and kept as it is."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from sessions.examples import value
from sessions.store.rows import Database, history, insert, query

from fiml.sessions.models import Session, SessionType
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio

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


async def test_an_unknown_stored_type_is_read_as_its_text(
    store: SessionStore, database: Database
) -> None:
    stored = await store.get_session(insert(database, type="astrology"))
    assert stored is not None
    assert stored.type == "astrology"
    assert not isinstance(stored.type, SessionType)


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
