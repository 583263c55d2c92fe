"""The reader: the documented response, and what may be imported."""

import json
import subprocess
import sys
from uuid import uuid4

import pytest
from sessions.examples import META_KEYS, USER, Connection, kinds, write

from fiml import errors
from fiml.errors import (
    ErasedUserError,
    InvalidArgumentError,
    SessionAnalyticsError,
)
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.sessions.models import QueryRecord, Session, SessionType
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio

# The two documented examples, word for word.
NEW_USER = json.loads("""
{
  "status": "success",
  "total_sessions": 0,
  "active_sessions": 0,
  "archived_sessions": 0,
  "total_queries": 0,
  "avg_duration_seconds": 0.0,
  "avg_queries_per_session": 0.0,
  "abandonment_rate": 0.0,
  "period_days": 30,
  "user_id": "new_user",
  "session_type": null,
  "top_assets": [],
  "query_type_distribution": {},
  "session_type_breakdown": {},
  "popular_tags": [],
  "message": "No session metrics available yet. Create sessions to start tracking analytics."
}
""")

EXISTING_USER = json.loads("""
{
  "status": "success",
  "total_sessions": 45,
  "active_sessions": 3,
  "archived_sessions": 42,
  "total_queries": 234,
  "avg_duration_seconds": 1847.3,
  "avg_queries_per_session": 5.2,
  "abandonment_rate": 0.15,
  "period_days": 30,
  "user_id": "analyst_001",
  "session_type": null,
  "top_assets": [
    {"symbol": "AAPL", "count": 23},
    {"symbol": "TSLA", "count": 18},
    {"symbol": "MSFT", "count": 15}
  ],
  "query_type_distribution": {
    "price": 120,
    "fundamentals": 67,
    "technical": 47
  },
  "session_type_breakdown": {
    "equity": 28,
    "comparative": 12,
    "portfolio": 5
  },
  "popular_tags": [
    {"tag": "tech", "count": 15},
    {"tag": "growth", "count": 12},
    {"tag": "research", "count": 8}
  ]
}
""")


async def test_a_new_user_gets_exactly_the_documented_answer(analytics: SessionAnalytics) -> None:
    found = await analytics.get_session_stats(user_id="new_user", days=30)
    assert found == NEW_USER
    assert kinds(found) == kinds(NEW_USER)
    assert NEW_USER["message"] == NO_METRICS_MESSAGE
    assert json.dumps(found) == json.dumps(NEW_USER)


async def test_an_existing_user_gets_exactly_the_documented_figures(
    analytics: SessionAnalytics, database: Connection
) -> None:
    """A history made so that the documented example is its answer."""

    def cycled(counts: dict[str, int], position: int) -> list[str]:
        return [name for name, count in counts.items() if position < count]

    types = [name for name, n in EXISTING_USER["session_type_breakdown"].items() for _ in range(n)]
    assets = {row["symbol"]: row["count"] for row in EXISTING_USER["top_assets"]}
    tags = {row["tag"]: row["count"] for row in EXISTING_USER["popular_tags"]}
    for position, session_type in enumerate(types):
        write(
            database,
            user_id="analyst_001",
            session_type=session_type,
            # 45 sessions with 234 queries and a mean of 1847.3 seconds.
            total_queries=6 if position < 9 else 5,
            duration_seconds=1847 + (position < 14),
            assets_analyzed=json.dumps(cycled(assets, position)),
            tags=json.dumps(cycled(tags, position)),
            query_type_summary=json.dumps(
                EXISTING_USER["query_type_distribution"] if position == 0 else {}
            ),
            abandoned=position < 7,
        )
    for is_archived, count in ((False, 3), (True, 42)):
        database.execute(
            "insert into sessions (id, user_id, type, is_archived, archived_at, expires_at) "
            "select gen_random_uuid(), 'analyst_001', 'equity', %s, now(), now() + interval '1 h' "
            "from generate_series(1, %s)",
            [is_archived, count],
        )
    found = await analytics.get_session_stats(user_id="analyst_001", days=30)
    # 14 of 45 a second longer; 7 of 45 abandoned.
    expected = EXISTING_USER | {"avg_duration_seconds": 1847.31, "abandonment_rate": 0.1556}
    assert found == expected
    assert kinds(found) == kinds(EXISTING_USER)
    assert list(found["query_type_distribution"]) == ["price", "fundamentals", "technical"]


@pytest.mark.parametrize("has_rows", [False, True])
async def test_meta_is_one_more_key_and_only_on_request(
    analytics: SessionAnalytics, database: Connection, has_rows: bool
) -> None:
    if has_rows:
        write(database, rows=3, assets_analyzed='["AAPL", 7, null]')
    plain = await analytics.get_session_stats()
    assert "meta" not in plain
    for question in ({}, {"user_id": USER}, {"session_type": "equity"}):
        found = await analytics.get_session_stats(**question, include_meta=True)
        meta = found.pop("meta")
        assert list(found) == list(plain)
        assert list(meta) == META_KEYS
        assert meta["as_of"].endswith("+00:00")
        assert meta["window_start"] < meta["as_of"]
        assert (meta["path"], meta["watermark"], meta["horizon"]) == ("source", None, None)
        assert (meta["serving_rows"], meta["mart_rows"], meta["tail_rows"]) == (0, 0, 0)
        assert (meta["source_rows"], meta["set_aside_values"]) == ((3, 6) if has_rows else (0, 0))
        json.dumps(meta)


async def test_the_message_is_there_exactly_when_no_session_has_metrics(
    analytics: SessionAnalytics, database: Connection
) -> None:
    # Active and archived sessions alone are no recorded metrics.
    database.execute(
        "insert into sessions (id, user_id, type, is_archived, archived_at, expires_at) values "
        "(gen_random_uuid(), %(user)s, 'equity', false, null, now() + interval '1 h'), "
        "(gen_random_uuid(), %(user)s, 'equity', true, now(), now())",
        {"user": USER},
    )
    found = await analytics.get_session_stats()
    assert (found["active_sessions"], found["archived_sessions"]) == (1, 1)
    assert found["message"] == NO_METRICS_MESSAGE
    write(database)
    for question, has_message in (
        ({}, False),
        ({"user_id": USER}, False),
        ({"user_id": "somebody else"}, True),
        ({"session_type": "macro"}, True),
        ({"session_type": "equity", "days": 1}, False),
    ):
        found = await analytics.get_session_stats(**question)
        assert ("message" in found) is has_message, question


async def test_the_answer_repeats_the_question(analytics: SessionAnalytics) -> None:
    found = await analytics.get_session_stats("ann", "macro", 7)
    assert (found["user_id"], found["session_type"], found["period_days"]) == ("ann", "macro", 7)
    found = await analytics.get_session_stats()
    assert (found["user_id"], found["session_type"], found["period_days"]) == (None, None, 30)


@pytest.mark.parametrize("session_type", list(SessionType))
async def test_a_session_type_may_be_a_member_or_its_value(
    analytics: SessionAnalytics, database: Connection, session_type: SessionType
) -> None:
    write(database, session_type=session_type.value)
    by_member = await analytics.get_session_stats(session_type=session_type)
    by_value = await analytics.get_session_stats(session_type=session_type.value)
    assert by_member == by_value
    assert by_member["total_sessions"] == 1
    # Not a member of an enumeration, where the documented example has text.
    assert type(by_member["session_type"]) is str


async def test_types_that_nobody_knows_still_count(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, session_type="of the future")
    found = await analytics.get_session_stats()
    assert found["session_type_breakdown"] == {"of the future": 1}


async def test_the_reader_takes_a_store_or_what_it_connects_with(
    store: SessionStore, database: Connection
) -> None:
    write(database)
    for source in (store, store._session_maker):
        assert (await SessionAnalytics(source).get_session_stats())["total_sessions"] == 1


async def test_a_summary_is_the_documented_answer_for_one_user(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, rows=2)
    write(database, user_id="somebody else")
    found = await analytics.get_user_session_summary(USER)
    assert found == await analytics.get_session_stats(user_id=USER, days=30)
    assert found["total_sessions"] == 2
    assert (await analytics.get_user_session_summary(USER, days=7))["period_days"] == 7


async def test_metrics_of_a_session_are_recorded_once_and_follow_it_until_its_end(
    store: SessionStore, analytics: SessionAnalytics
) -> None:
    session = await store.create_session(["AAPL"], "equity", USER, tags=["tech"])
    await store.add_query(session.id, QueryRecord(query_type="price"))
    assert await analytics.record_session_metrics(session)
    assert (await analytics.get_session_stats())["total_queries"] == 1
    await store.add_query(session.id, QueryRecord(query_type="news"))
    assert await analytics.record_session_metrics(session)
    found = await analytics.get_session_stats()
    assert (found["total_sessions"], found["total_queries"]) == (1, 2)
    assert await store.archive_session(session.id)
    final = await analytics.get_session_stats()
    assert not await analytics.record_session_metrics(session)
    assert await analytics.get_session_stats() == final
    assert final["popular_tags"] == [{"tag": "tech", "count": 1}]


async def test_metrics_of_a_session_that_the_database_never_saw_are_those_of_the_object(
    analytics: SessionAnalytics, store: SessionStore
) -> None:
    template = await store.create_session(["TSLA", "AAPL"], SessionType.CRYPTO, USER, tags=["a"])
    session = Session.from_dict(template.to_dict() | {"id": str(uuid4())})
    session.add_query(QueryRecord(query_type="price"))
    await store.delete_session(template.id)
    assert await analytics.record_session_metrics(session)
    found = await analytics.get_session_stats(user_id=USER)
    assert found["session_type_breakdown"] == {"crypto": 1}
    assert found["query_type_distribution"] == {"price": 1}
    assert found["total_queries"] == 1


async def test_metrics_of_an_erased_user_are_refused_without_naming_the_user(
    analytics: SessionAnalytics, store: SessionStore, database: Connection
) -> None:
    session = await store.create_session(["AAPL"], "equity", USER)
    database.execute("select analytics.erase_user(%s)", [USER])
    with pytest.raises(ErasedUserError) as refusal:
        await analytics.record_session_metrics(session)
    assert USER not in str(refusal.value)


def test_importing_the_reader_imports_no_build_tool() -> None:
    program = (
        "import sys; import fiml.sessions.analytics, fiml.sessions.store; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "fiml" in loaded
    assert set(loaded).isdisjoint({"dbt", "dagster", "mcp", "rich", "click", "agate", "cashews"})


def test_the_public_errors_are_these() -> None:
    assert errors.__all__ == [
        "AlertFileError",
        "AuthenticationError",
        "AuthorizationError",
        "BuildError",
        "DatabaseError",
        "DatabaseUnavailableError",
        "DeadlineExceededError",
        "DeliveryError",
        "ErasedUserError",
        "InvalidArgumentError",
        "InvalidDaysError",
        "InvalidUserIdError",
        "LimitExceededError",
        "LocalServerError",
        "PoolExhaustedError",
        "ReconciliationError",
        "RoleError",
        "SchemaVersionError",
        "SessionAnalyticsError",
        "SessionArchivedError",
        "SessionNotFoundError",
        "SettingsError",
        "UnknownSessionTypeError",
        "UnsupportedExportFormatError",
    ]


def test_the_tree_of_errors_is_as_drawn() -> None:
    drawn: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        branch, mark, rest = line.rpartition("── ")
        name = rest.split()[0] if rest.strip() else ""
        if not name.endswith("Error"):
            continue
        depth = 0 if not mark else (len(branch) - 4) // 4 + 1
        also = rest[len(name) :].strip().partition("(")[2].partition(")")[0]
        path[depth:] = [name]
        drawn[name] = (path[depth - 1] if depth else "Exception", *filter(None, [also]))
    defined = {
        name: tuple(base.__name__ for base in kind.__bases__)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SessionAnalyticsError)
    }
    assert drawn == defined
    assert sorted(defined) == errors.__all__
    assert all(kind.__doc__ for kind in map(vars(errors).get, defined))
    assert issubclass(InvalidArgumentError, ValueError)
