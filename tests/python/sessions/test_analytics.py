"""The reader: the documented response, typed errors, and a database that does not answer."""

import asyncio
import csv
import io
import json
import logging
import math
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sessions.gateway import Gateway

from fiml import errors
from fiml.database import Database
from fiml.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    ErasedUserError,
    InvalidArgumentError,
    InvalidDaysError,
    InvalidUserIdError,
    PoolExhaustedError,
    SchemaVersionError,
    SessionAnalyticsError,
    UnknownSessionTypeError,
    UnsupportedExportFormatError,
)
from fiml.local_server import local_server, remove_local_server
from fiml.sessions.analytics import MAX_DAYS, NO_METRICS_MESSAGE, SessionAnalytics
from fiml.sessions.migrations import migrate, uninstall
from fiml.sessions.models import QueryRecord, Session, SessionType
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

Connection = psycopg.Connection[tuple[Any, ...]]

USER = "analyst_001@example.com"
# How much later than its deadline a call may end on a machine that does other things too.
MARGIN = 3.0

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
META_KEYS = [
    "as_of",
    "window_start",
    "horizon",
    "path",
    "watermark",
    "serving_rows",
    "mart_rows",
    "tail_rows",
    "source_rows",
    "set_aside_values",
]


def kinds(answer: Any) -> Any:
    """The shape of an answer: keys in their order, and the types of what they hold."""
    if isinstance(answer, dict):
        return [(key, kinds(member)) for key, member in answer.items()]
    if isinstance(answer, list):
        return [kinds(member) for member in answer]
    return type(answer)


def write(database: Connection, rows: int = 1, **columns: object) -> None:
    """Metrics of so many sessions; `columns` holds SQL values."""
    given = {
        "user_id": USER,
        "session_type": "equity",
        "duration_seconds": 60,
        "total_queries": 2,
        "assets_analyzed": '["AAPL"]',
        "query_type_summary": '{"price": 2}',
        "tags": '["tech"]',
        **columns,
    }
    database.execute(
        f"insert into session_metrics (session_id, created_at, {', '.join(given)}) "
        f"select gen_random_uuid(), now() - number * interval '1 minute', "
        f"{', '.join(['%s'] * len(given))} from generate_series(1, %s) as number",
        [*given.values(), rows],
    )


@pytest.fixture
def analytics(store: SessionStore) -> SessionAnalytics:
    return SessionAnalytics(store._session_maker)


@pytest.fixture
def closed() -> SessionAnalytics:
    """Nobody answers there, and nobody ever connected."""
    return SessionAnalytics(Database(Settings(conninfo="host=127.0.0.1 port=1 user=nobody")))


@asynccontextmanager
async def reading(
    conninfo: str, *, timeout: float = 30.0, pool_size: int = 4
) -> AsyncIterator[SessionAnalytics]:
    settings = Settings(conninfo=conninfo, timeout_seconds=timeout, pool_size=pool_size)
    async with Database(settings) as database:
        yield SessionAnalytics(database)


@contextmanager
def takes_no_longer_than(seconds: float) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.time()
    yield
    assert loop.time() - before < seconds + MARGIN


@contextmanager
def locked(conninfo: str, table: str = "session_metrics") -> Iterator[None]:
    """Another program keeps everybody from the table."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(sql.SQL("lock table {}").format(sql.Identifier(table)))
        yield
        connection.rollback()


async def wait_for_activity(database: Connection, condition: str, wanted: int) -> None:
    """Until so many of the library's own connections are in the state."""
    while True:
        row = database.execute(
            "select count(*) from pg_stat_activity where datname = current_database() "
            f"and application_name = 'session-analytics' and {condition}"
        ).fetchone()
        if row == (wanted,):
            return
        await asyncio.sleep(0)


# The response -----------------------------------------------------------------------------------


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


# Recording --------------------------------------------------------------------------------------


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


# Arguments --------------------------------------------------------------------------------------

WRONG_DAYS = [
    True,
    False,
    0,
    -1,
    MAX_DAYS + 1,
    1.0,
    30.5,
    math.nan,
    math.inf,
    "30",
    "",
    None,
    [30],
    10**30,
]
WRONG_USERS = ["", "a\0b", "\0", "x" * 256, b"ann", 7, 7.0, True, "\ud800", "a\udfffb", ["ann"], {}]
WRONG_TYPES = ["unknown", "", "Equity", " equity", "EQUITY", "equity\0", 7, True, b"equity", [], {}]


def questions(closed: SessionAnalytics) -> list[Callable[..., Awaitable[Any]]]:
    return [
        closed.get_session_stats,
        closed.export_session_metrics,
        lambda **given: closed.export_session_metrics("csv", **given),
    ]


@pytest.mark.parametrize("days", WRONG_DAYS, ids=lambda days: f"{days}"[:9])
async def test_wrong_days_are_refused_before_any_query(closed: SessionAnalytics, days: Any) -> None:
    for ask in (*questions(closed), partial(closed.get_user_session_summary, "ann")):
        with pytest.raises(InvalidDaysError, match="expected an integer from 1 to 3650") as refusal:
            await ask(days=days)
        assert isinstance(refusal.value, ValueError)
        assert f"days is {days!r};" in str(refusal.value)


@pytest.mark.parametrize("given", [10**5000, -(10**5000), "x" * 10**6, [0] * 10**5], ids=type)
async def test_what_is_too_long_to_repeat_is_refused_all_the_same(
    closed: SessionAnalytics, given: Any
) -> None:
    for argument in ("days", "user_id", "session_type", "format"):
        with pytest.raises(InvalidArgumentError) as refusal:
            await closed.export_session_metrics(**{argument: given})
        assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("user_id", WRONG_USERS, ids=lambda user_id: ascii(user_id)[:20])
async def test_wrong_user_ids_are_refused_before_any_query_and_not_repeated(
    closed: SessionAnalytics, user_id: Any
) -> None:
    for ask in (*questions(closed), closed.get_user_session_summary):
        with pytest.raises(InvalidUserIdError, match=r"^user_id .*; expected a string") as refusal:
            await ask(user_id=user_id)
        assert isinstance(refusal.value, ValueError)
        if isinstance(user_id, str) and user_id:
            assert user_id not in str(refusal.value)


async def test_no_user_is_everybody_but_never_somebody_s_summary(
    analytics: SessionAnalytics, closed: SessionAnalytics, database: Connection
) -> None:
    write(database)
    assert (await analytics.get_session_stats(user_id=None))["total_sessions"] == 1
    with pytest.raises(InvalidUserIdError, match="None"):
        await closed.get_user_session_summary(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("session_type", WRONG_TYPES, ids=repr)
async def test_unknown_session_types_are_refused_before_any_query(
    closed: SessionAnalytics, session_type: Any
) -> None:
    for ask in questions(closed):
        with pytest.raises(UnknownSessionTypeError) as refusal:
            await ask(session_type=session_type)
        assert isinstance(refusal.value, ValueError)
        assert f"{session_type!r}; expected one of " in str(refusal.value)
        for known in SessionType:
            assert known.value in str(refusal.value)


@pytest.mark.parametrize("export_format", ["xml", "", "JSON", "csv ", None, 7, b"csv"], ids=repr)
async def test_unknown_export_formats_are_refused_before_any_query(
    closed: SessionAnalytics, export_format: Any
) -> None:
    with pytest.raises(
        UnsupportedExportFormatError, match=r"^Unsupported export format"
    ) as refusal:
        await closed.export_session_metrics(format=export_format)
    assert isinstance(refusal.value, ValueError)
    assert repr(export_format) in str(refusal.value)
    assert "'json'" in str(refusal.value)
    assert "'csv'" in str(refusal.value)


async def test_arguments_at_their_limits_are_taken(
    analytics: SessionAnalytics, database: Connection
) -> None:
    longest = "😀" * 255
    write(database, user_id=longest)
    for days in (1, MAX_DAYS):
        assert (await analytics.get_session_stats(longest, days=days))["total_sessions"] == 1
    for odd in ("'; drop table sessions; --", "%s", "%(days)s", "\\", "\n", " ", "null", "e\u0301"):
        assert (await analytics.get_session_stats(odd))["user_id"] == odd


async def test_a_reader_that_was_never_opened_says_so(closed: SessionAnalytics) -> None:
    with pytest.raises(DatabaseError, match="not initialised"):
        await closed.get_session_stats()


# Export -----------------------------------------------------------------------------------------

COLUMNS = [
    "session_id",
    "user_id",
    "session_type",
    "created_at",
    "duration_seconds",
    "total_queries",
    "cache_hit_rate",
    "avg_query_time_ms",
    "assets_analyzed",
    "query_type_summary",
    "tags",
    "completed_normally",
    "abandoned",
]


async def test_the_json_export_is_the_documented_answer(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, rows=3)
    write(database, session_type="macro")
    for question in ({}, {"user_id": USER, "session_type": "macro", "days": 7}):
        found = await analytics.export_session_metrics(format="json", **question)
        assert found == await analytics.get_session_stats(**question)
        assert found == await analytics.export_session_metrics(**question)


async def test_the_csv_export_has_a_header_and_a_row_for_each_session_of_the_window(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, rows=3)
    write(database, session_type="macro", user_id=None)
    database.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', now() - interval '8 days', 1), "
        "(gen_random_uuid(), 'equity', now() + interval '1 day', 1)"
    )

    async def rows(**question: Any) -> list[dict[str, str]]:
        text = await analytics.export_session_metrics("csv", **question)
        assert isinstance(text, str)
        assert text.endswith("\r\n")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        assert reader.fieldnames == COLUMNS
        return list(reader)

    found = await rows(days=7)
    assert len(found) == 4
    assert [row["created_at"] for row in found] == sorted(row["created_at"] for row in found)
    assert all(row["created_at"].endswith("+00:00") for row in found)
    ids = {UUID(row["session_id"]) for row in found}
    assert len(ids) == 4
    assert len(await rows(days=30)) == 5
    assert len(await rows(user_id=USER)) == 3
    assert len(await rows(session_type="equity", days=7)) == 3
    macro = await rows(session_type=SessionType.MACRO)
    assert {
        name: macro[0][name] for name in COLUMNS if name not in ("session_id", "created_at")
    } == {
        "user_id": "",
        "session_type": "macro",
        "duration_seconds": "60",
        "total_queries": "2",
        "cache_hit_rate": "0.0",
        "avg_query_time_ms": "",
        "assets_analyzed": '["AAPL"]',
        "query_type_summary": '{"price": 2}',
        "tags": '["tech"]',
        "completed_normally": "false",
        "abandoned": "false",
    }


async def test_the_csv_export_carries_any_text(
    analytics: SessionAnalytics, database: Connection
) -> None:
    odd = [',"\r\n', "😀", "\n", '""', "=1+1", "\\", "'", " a ", "e\u0301", "\u2028"]
    for name in odd:
        write(database, user_id=name, assets_analyzed=json.dumps([name]), cache_hit_rate=name)
    text = await analytics.export_session_metrics("csv")
    assert isinstance(text, str)
    # As a file that is written without translating line ends, and read by another program.
    lines = csv.DictReader(io.StringIO(text.encode().decode(), newline=""), strict=True)
    found = {row["user_id"]: row for row in lines}
    assert set(found) == set(odd)
    for name, row in found.items():
        assert json.loads(row["assets_analyzed"]) == [name]
        assert row["cache_hit_rate"] == name
        assert row["tags"] == '["tech"]'


async def test_the_csv_export_of_an_empty_window_is_its_header(analytics: SessionAnalytics) -> None:
    assert await analytics.export_session_metrics("csv") == ",".join(COLUMNS) + "\r\n"


# When the database does not answer --------------------------------------------------------------


async def test_a_refused_connection_is_an_error_at_the_start(empty_database: str) -> None:
    async with Gateway(empty_database) as gateway:
        conninfo = make_conninfo(gateway.conninfo(), password="hunter2")
    store = SessionStore(Settings(conninfo=conninfo, timeout_seconds=5))
    with takes_no_longer_than(5), pytest.raises(DatabaseUnavailableError) as refusal:
        await store.initialize()
    assert "hunter2" not in str(refusal.value)


async def test_a_server_that_went_away_and_came_back_is_found_without_a_new_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    home = tmp_path / "server"
    try:
        with local_server(home, durable=False) as server:
            migrate(server.conninfo())
            gateway = Gateway(server.conninfo())
            await gateway.open()
            database = Database(
                Settings(conninfo=gateway.conninfo(), timeout_seconds=2, pool_size=3)
            )
            analytics = SessionAnalytics(database)
            await database.open()
            await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(6)))
            wrong = make_conninfo(gateway.conninfo(), password="hunter2")
            with pytest.raises(DatabaseUnavailableError) as refusal:
                await Database(Settings(conninfo=wrong, timeout_seconds=5)).open()
            assert "hunter2" not in str(refusal.value)
        await gateway.close()
        for _ in range(2):
            with takes_no_longer_than(2), pytest.raises(DatabaseUnavailableError) as refusal:
                await analytics.get_session_stats(USER)
            assert server.password not in str(refusal.value)
            assert USER not in str(refusal.value)
        with local_server(home, durable=False) as server:
            gateway.target = server.conninfo()
            await gateway.open()
            answers = []
            while not answers:
                try:
                    answers.append(await analytics.get_session_stats(USER))
                except DatabaseUnavailableError:
                    continue
            assert answers[0]["total_sessions"] == 0
            await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(6)))
            await database.close()
            await gateway.close()
    finally:
        remove_local_server(home)
    for secret in (server.password, "hunter2", USER):
        assert secret not in caplog.text


async def test_a_connection_that_the_server_ended_does_not_fail_a_read(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database)
    await asyncio.gather(*(analytics.get_session_stats() for _ in range(8)))
    database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name = 'session-analytics'"
    )
    await wait_for_activity(database, "true", 0)
    found = await asyncio.gather(*(analytics.get_session_stats() for _ in range(8)))
    assert {answer["total_sessions"] for answer in found} == {1}


async def test_a_server_that_accepts_and_never_answers_is_an_error_within_the_deadline() -> None:
    async with Gateway(None) as gateway:
        store = SessionStore(Settings(conninfo=gateway.conninfo(), timeout_seconds=0.5))
        with takes_no_longer_than(0.5), pytest.raises(DeadlineExceededError, match=r"of 0\.5 s"):
            await store.initialize()
        await store.shutdown()


async def test_a_network_that_falls_silent_is_an_error_within_the_deadline_and_may_come_back(
    migrated_database: str,
) -> None:
    async with (
        Gateway(migrated_database) as gateway,
        reading(gateway.conninfo(), timeout=2, pool_size=2) as analytics,
    ):
        await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(4)))
        gateway.fall_silent()
        with takes_no_longer_than(2):
            found = await asyncio.gather(
                *(analytics.get_session_stats(USER) for _ in range(4)), return_exceptions=True
            )
        assert {type(error) for error in found} <= {
            DeadlineExceededError,
            PoolExhaustedError,
            DatabaseUnavailableError,
        }
        assert DeadlineExceededError in {type(error) for error in found}
        assert not any(USER in str(error) for error in found)
        gateway.speak_again()
        answers = []
        while not answers:
            try:
                answers.append(await analytics.get_session_stats(USER))
            except DatabaseError:
                continue
        assert answers[0]["total_sessions"] == 0


@pytest.mark.parametrize("table", ["sessions", "session_metrics"])
async def test_a_table_that_somebody_locked_is_an_error_within_the_deadline(
    migrated_database: str, database: Connection, table: str
) -> None:
    async with reading(migrated_database, timeout=1, pool_size=2) as analytics:
        await analytics.get_session_stats(USER)
        with locked(migrated_database, table):
            for ask in (
                analytics.get_session_stats,
                lambda: analytics.get_session_stats(USER, include_meta=True),
            ):
                with takes_no_longer_than(1), pytest.raises(DeadlineExceededError) as refusal:
                    await ask()
                assert isinstance(refusal.value, TimeoutError)
                assert USER not in str(refusal.value)
            # Nothing goes on behind for an answer that nobody waits for.
            await wait_for_activity(database, "state <> 'idle'", 0)
        assert (await analytics.get_session_stats())["total_sessions"] == 0


async def test_five_hundred_callers_at_once_are_served_by_five_connections(
    migrated_database: str, database: Connection
) -> None:
    write(database, rows=4)
    async with reading(migrated_database, pool_size=5) as analytics:
        found = await asyncio.gather(
            *(analytics.get_session_stats(USER if n % 2 else None) for n in range(500))
        )
        assert {answer["total_sessions"] for answer in found} == {4}
        await come_to_rest(analytics)
        assert 1 <= own_connections(database) <= 5


async def test_five_hundred_callers_of_a_pool_that_is_exhausted_are_refused_in_time(
    migrated_database: str, database: Connection
) -> None:
    async with reading(migrated_database, timeout=2, pool_size=5) as analytics:
        await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(10)))
        with locked(migrated_database), takes_no_longer_than(2):
            found = await asyncio.gather(
                *(analytics.get_session_stats(USER) for _ in range(500)), return_exceptions=True
            )
        kinds = Counter(map(type, found))
        assert kinds.keys() == {DeadlineExceededError, PoolExhaustedError}
        assert kinds[DeadlineExceededError] >= 5
        refusal = next(error for error in found if isinstance(error, PoolExhaustedError))
        assert "all 5 connections" in str(refusal)
        assert "SESSION_ANALYTICS_POOL_SIZE" in str(refusal)
        await wait_for_activity(database, "state <> 'idle'", 0)
        answers: list[Any] = []
        while not answers:
            try:
                answers += await asyncio.gather(*(analytics.get_session_stats() for _ in range(50)))
            except DatabaseError:
                continue
        await come_to_rest(analytics)
        assert own_connections(database) <= 5


async def test_a_thousand_cancelled_calls_leave_no_transaction_and_no_connection_behind(
    migrated_database: str, database: Connection
) -> None:
    """Reads and writes, each cancelled somewhere in its middle."""
    write(database, rows=50)
    choose = Random()
    settings = Settings(conninfo=migrated_database, timeout_seconds=30, pool_size=5)
    async with SessionStore(settings) as store:
        analytics = SessionAnalytics(store)
        session = await store.create_session(["AAPL"], "equity", USER)
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            analytics.get_session_stats,
            lambda: analytics.get_session_stats(USER, include_meta=True),
            lambda: analytics.export_session_metrics("csv"),
            lambda: analytics.record_session_metrics(session),
            lambda: store.add_query(session.id, QueryRecord(query_type="price")),
        ]

        async def cancel() -> bool:
            call = asyncio.create_task(choose.choice(calls)())
            # Counted in turns of the loop, or in time: what has begun on the server, too.
            for _ in range(choose.choice([0, choose.randrange(60)])):
                await asyncio.sleep(0)
            await asyncio.sleep(choose.choice([0, choose.uniform(0, 0.01)]))
            return call.cancel()

        cancelled = 0
        for _ in range(50):
            cancelled += sum(await asyncio.gather(*(cancel() for _ in range(20))))
        assert cancelled > 300
        await wait_for_activity(database, "state <> 'idle'", 0)
        await come_to_rest(analytics)
        assert own_connections(database) <= 5
        assert database.execute(
            "select count(*) from pg_locks inner join pg_stat_activity using (pid) "
            "where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchone() == (0,)
        found = await asyncio.gather(*(analytics.get_session_stats() for _ in range(50)))
        assert {answer["total_sessions"] for answer in found} <= {50, 51}
        assert (await store.get_session(session.id)) is not None


def own_connections(database: Connection) -> int:
    row = database.execute(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'session-analytics'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def come_to_rest(analytics: SessionAnalytics) -> None:
    """Until the pool has back what it lent, and nothing goes on behind."""
    database = analytics._database
    assert database._pool is not None
    while True:
        stats = database._pool.get_stats()
        if (
            database._connections_in_use == 0
            and not database._behind
            and stats["pool_available"] == stats["pool_size"]
            and stats.get("requests_waiting", 0) == 0
        ):
            return
        await asyncio.sleep(0)


async def test_a_schema_that_vanishes_is_an_error_that_says_what_to_do(
    migrated_database: str,
) -> None:
    async with reading(migrated_database) as analytics:
        await analytics.get_session_stats()
        uninstall(migrated_database)
        for ask in (
            analytics.get_session_stats,
            lambda: analytics.get_session_stats(USER),
            lambda: analytics.export_session_metrics("csv"),
        ):
            with pytest.raises(SchemaVersionError, match="run `session-analytics migrate`"):
                await ask()
        migrate(migrated_database)
        assert (await analytics.get_session_stats())["total_sessions"] == 0


async def test_a_role_that_may_not_read_gets_an_error_and_no_zeros(
    migrated_database: str, database: Connection
) -> None:
    role = f"nobody_{uuid4().hex}"
    database.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(role)))
    try:
        async with reading(migrated_database) as analytics:

            async def as_nobody(connection: Any) -> None:
                await connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))

            await analytics._database.run(as_nobody)
            with pytest.raises(DatabaseError, match="permission denied"):
                await analytics.get_session_stats()
    finally:
        database.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


# The module -------------------------------------------------------------------------------------


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
        "AuthenticationError",
        "AuthorizationError",
        "BuildError",
        "DatabaseError",
        "DatabaseUnavailableError",
        "DeadlineExceededError",
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
