import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from fiml.errors import InvalidArgumentError, SessionArchivedError
from fiml.sessions import models
from fiml.sessions.models import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionSummary,
    SessionType,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HALF_A_PAIR = "\ud800"


def query(query_type: str = "price", **members: object) -> QueryRecord:
    return QueryRecord(query_type=query_type, **members)


def session(**members: object) -> Session:
    return Session(**{"type": "equity", "assets": ["AAPL"], **members})


def test_the_public_names_are_these() -> None:
    assert models.__all__ == [
        "AnalysisHistory",
        "QueryRecord",
        "Session",
        "SessionState",
        "SessionSummary",
        "SessionType",
    ]


def test_the_session_types_are_text() -> None:
    assert [str(known) for known in SessionType] == [
        "equity",
        "crypto",
        "portfolio",
        "comparative",
        "macro",
    ]
    assert SessionType.EQUITY == "equity"


def test_a_known_type_is_an_enum_member_and_an_unknown_one_stays_text() -> None:
    assert session(type="macro").type is SessionType.MACRO
    assert session(type=SessionType.MACRO).type is SessionType.MACRO
    assert session(type="astrology").type == "astrology"


def test_a_new_session_lives_for_a_day_and_has_an_id_ordered_by_time() -> None:
    fresh = session()
    assert fresh.id.version == 7
    assert fresh.expires_at == fresh.created_at + timedelta(hours=24)
    assert fresh.last_accessed_at == fresh.created_at
    assert fresh.created_at.tzinfo is UTC
    assert not fresh.is_archived


@pytest.mark.parametrize("member", ["created_at", "expires_at", "last_accessed_at", "archived_at"])
def test_a_naive_time_is_an_error(member: str) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValidationError, match="timezone"):
        session(**{member: naive})
    with pytest.raises(ValidationError, match="timezone"):
        setattr(session(), member, naive)
    with pytest.raises(ValidationError, match="timezone"):
        session(**{member: naive.isoformat()})


def test_a_naive_time_of_a_query_is_an_error() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        query(timestamp=NOON.replace(tzinfo=None))


def test_times_of_other_zones_become_utc() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert session(created_at=local).created_at == NOON
    assert session(created_at=local).created_at.tzinfo is UTC


def test_a_time_that_utc_does_not_have_is_a_validation_error() -> None:
    before_time = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    with pytest.raises(ValidationError, match="outside the years"):
        session(created_at=before_time)


def test_names_keep_their_order_and_lose_duplicates() -> None:
    made = session(assets=["MSFT", "AAPL", "MSFT", "aapl", " AAPL"], tags=["b", "a", "b"])
    assert made.assets == ["MSFT", "AAPL", "aapl", " AAPL"]
    assert made.tags == ["b", "a"]


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", HALF_A_PAIR, 5, None])
def test_a_name_that_cannot_count_is_an_error(name: object) -> None:
    for member in ("assets", "tags"):
        with pytest.raises(ValidationError):
            session(**{member: [name]})
    with pytest.raises(ValidationError):
        query(query_type=name)


def test_a_bare_string_is_no_list_of_names() -> None:
    with pytest.raises(ValidationError):
        session(assets="AAPL")


def test_an_unknown_member_is_an_error() -> None:
    with pytest.raises(ValidationError):
        session(asset=["AAPL"])


def test_a_validation_error_does_not_repeat_what_it_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        session(user_id="secret-user\0")
    assert "secret-user" not in str(caught.value)


def test_an_expired_session_has_no_time_remaining() -> None:
    past = session(created_at=NOON, expires_at=NOON + timedelta(hours=1))
    assert past.is_expired
    assert past.time_remaining == timedelta(0)
    assert past.duration == timedelta(hours=1)


def test_an_open_session_has_time_remaining_and_lasts_until_now() -> None:
    fresh = session()
    assert not fresh.is_expired
    assert timedelta(hours=23) < fresh.time_remaining <= timedelta(hours=24)
    assert timedelta(0) <= fresh.duration < timedelta(minutes=5)


def test_a_session_without_an_expiry_counts_as_expired() -> None:
    endless = session(created_at=NOON, expires_at=None)
    assert endless.is_expired
    assert endless.time_remaining == timedelta(0)
    assert endless.duration > timedelta(days=1)


def test_a_session_that_expired_before_it_began_lasted_no_time() -> None:
    assert session(created_at=NOON, expires_at=NOON - timedelta(hours=1)).duration == timedelta(0)


def test_an_archived_session_lasted_until_its_archival() -> None:
    closed = session(
        created_at=NOON,
        expires_at=NOON + timedelta(hours=24),
        is_archived=True,
        archived_at=NOON + timedelta(minutes=10),
    )
    assert closed.duration == timedelta(minutes=10)


def test_extending_counts_from_the_expiry_while_it_is_ahead() -> None:
    fresh = session()
    before = fresh.expires_at
    assert before is not None
    fresh.extend(2.5)
    assert fresh.expires_at == before + timedelta(hours=2.5)


@pytest.mark.parametrize("expires_at", [NOON + timedelta(hours=1), None])
def test_extending_counts_from_now_once_the_time_is_up(expires_at: datetime | None) -> None:
    past = session(created_at=NOON, expires_at=expires_at)
    past.extend(1)
    assert timedelta(minutes=59) < past.time_remaining <= timedelta(hours=1)


def test_extending_to_the_end_of_time_stops_there() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    endless = session(expires_at=last)
    endless.extend(1)
    assert endless.expires_at == last


@pytest.mark.parametrize(
    "hours", [0, -1, float("nan"), float("inf"), 87_601, True, "1", None, timedelta(hours=1)]
)
def test_extending_by_no_time_is_an_error(hours: object) -> None:
    with pytest.raises(InvalidArgumentError, match="expected hours"):
        session().extend(hours)  # type: ignore[arg-type]


def test_an_archived_session_is_not_extended() -> None:
    with pytest.raises(SessionArchivedError):
        session(is_archived=True).extend(1)


def test_touching_moves_the_last_access_to_now_and_never_back() -> None:
    past = session(created_at=NOON)
    past.touch()
    assert past.last_accessed_at > NOON
    ahead = datetime.now(UTC) + timedelta(hours=1)
    past.last_accessed_at = ahead
    past.touch()
    assert past.last_accessed_at == ahead


def test_adding_a_query_touches_the_session_and_counts_it() -> None:
    asked = session(created_at=NOON)
    asked.add_query(query())
    assert asked.last_accessed_at > NOON
    assert asked.state.history.total_queries == 1


def test_a_query_record_does_not_change() -> None:
    with pytest.raises(ValidationError):
        query().query_type = "other"


@pytest.mark.parametrize(
    "members",
    [
        {"execution_time_ms": -1},
        {"execution_time_ms": "12"},
        {"execution_time_ms": True},
        {"execution_time_ms": float("nan")},
        {"execution_time_ms": float("inf")},
        {"execution_time_ms": 2e15},
        {"cache_hit": 1},
        {"cache_hit": "true"},
        {"parameters": None},
        {"parameters": [1]},
    ],
)
def test_a_figure_of_the_wrong_kind_is_an_error(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        query(**members)


def test_a_history_tells_when_how_often_and_from_where_it_was_asked() -> None:
    history = AnalysisHistory()
    assert (history.first_query_at, history.last_query_at) == (None, None)
    assert history.cache_hit_rate == 0.0
    assert history.get_query_types_summary() == {}
    for hours, kind, is_hit in [(2, "price", True), (1, "news", False), (3, "price", False)]:
        history.add_query(query(kind, timestamp=NOON + timedelta(hours=hours), cache_hit=is_hit))
    history.add_query(query("éclair", timestamp=NOON + timedelta(hours=2)))
    assert history.total_queries == 4
    assert history.first_query_at == NOON + timedelta(hours=1)
    assert history.last_query_at == NOON + timedelta(hours=3)
    assert history.cache_hit_rate == 0.25
    assert list(history.get_query_types_summary().items()) == [
        ("price", 2),
        ("news", 1),
        ("éclair", 1),
    ]


def test_recent_queries_come_newest_first_and_the_later_added_of_two_at_once_before_the_other() -> (
    None
):
    times = [2, 1, 3, 2]
    queries = [query(timestamp=NOON + timedelta(hours=hours)) for hours in times]
    history = AnalysisHistory(queries=queries)
    assert history.total_queries == 4
    assert history.get_recent_queries(3) == [queries[2], queries[3], queries[0]]
    assert len(history.get_recent_queries()) == 4


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 2.0, None])
def test_a_limit_that_is_no_whole_number_is_an_error(limit: object) -> None:
    with pytest.raises(InvalidArgumentError, match="limit"):
        AnalysisHistory().get_recent_queries(limit)  # type: ignore[arg-type]


def test_a_history_counts_at_least_what_it_holds() -> None:
    assert AnalysisHistory(queries=[query(), query()], total_queries=1).total_queries == 2
    assert AnalysisHistory(queries=[query()], total_queries=7).total_queries == 7
    with pytest.raises(ValidationError):
        AnalysisHistory(total_queries=-1)


def test_a_state_remembers_context_and_results() -> None:
    state = SessionState()
    assert state.get_context("focus") is None
    assert state.get_context("focus", "none") == "none"
    assert state.get_intermediate_result("screen", 0) == 0
    state.update_context("focus", "growth")
    state.store_intermediate_result("screen", [1, 2])
    assert state.get_context("focus") == "growth"
    assert state.get_intermediate_result("screen") == [1, 2]


def test_a_session_reads_back_from_its_dictionary_exactly_as_it_was() -> None:
    full = session(
        user_id=" ü 'x' ",
        type="unheard of",
        tags=["growth"],
        created_at=datetime(1, 1, 1, tzinfo=UTC),
        expires_at=datetime.max.replace(tzinfo=UTC),
        is_archived=True,
        archived_at=NOON + timedelta(microseconds=1),
    )
    full.state.update_context("nested", {"a": [1, 2.5, None, True, {"b": "é"}], "": 10**30})
    full.state.metadata["empty"] = {}
    full.state.preferences["size"] = 1e300
    full.state.store_intermediate_result("n", -0.5)
    full.add_query(
        query(
            timestamp=NOON,
            parameters={"symbol": "AAPL"},
            result_summary={"rows": 3},
            execution_time_ms=12.345,
            cache_hit=True,
        )
    )
    data = full.to_dict()
    assert Session.from_dict(data) == full
    assert Session.from_dict(json.loads(json.dumps(data, allow_nan=False))) == full
    endless = session(expires_at=None)
    assert Session.from_dict(endless.to_dict()) == endless


def test_a_dictionary_that_is_no_session_is_an_error() -> None:
    for data in ({}, {"type": "equity", "id": "x"}, [], None):
        with pytest.raises(ValidationError):
            Session.from_dict(data)  # type: ignore[arg-type]


def deeply_nested() -> object:
    value: object = 1
    for _ in range(101):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (float("nan"), "number"),
        (float("inf"), "number"),
        (1 << 5000, "number"),
        ("a\0b", "NUL"),
        (HALF_A_PAIR, "surrogate"),
        ({"a\0": 1}, "NUL"),
        ({1: "one"}, "key 1"),
        ((1, 2), "tuple"),
        ({1, 2}, "set"),
        (NOON, "datetime"),
        (b"bytes", "bytes"),
        (object(), "object"),
        (deeply_nested(), "deeper than 100"),
    ],
)
def test_what_json_cannot_hold_is_an_error_that_names_it(value: object, complaint: str) -> None:
    for member in ("context", "preferences", "intermediate_results", "metadata"):
        made = session()
        getattr(made.state, member)["here"] = value
        with pytest.raises(InvalidArgumentError, match=complaint):
            made.to_dict()
    for members in ({"parameters": {"here": value}}, {"result_summary": value}):
        made = session()
        made.add_query(query(**members))
        with pytest.raises(InvalidArgumentError, match=complaint):
            made.to_dict()


def test_the_place_of_what_json_cannot_hold_is_named() -> None:
    made = session()
    made.state.update_context("a", [0, {"b": {1, 2}}])
    with pytest.raises(InvalidArgumentError, match=r"context\['a'\]\[1\]\['b'\] is of type set"):
        made.to_dict()


def test_a_summary_has_the_times_of_its_session() -> None:
    full = session(created_at=NOON, expires_at=NOON + timedelta(hours=2))
    summary = SessionSummary(**full.model_dump(exclude={"state"}), total_queries=3)
    assert (summary.duration, summary.is_expired) == (timedelta(hours=2), True)
    assert summary.total_queries == 3
