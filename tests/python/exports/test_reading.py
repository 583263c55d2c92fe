"""What is exported is what the API says, of one snapshot, in bounded memory."""

import asyncio
import csv
import io
import json
import tracemalloc
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from fiml.database import Database
from fiml.errors import DatabaseUnavailableError, DeadlineExceededError, UnknownSessionTypeError
from fiml.exports.reading import Subject, fitting_grain, read_report
from fiml.exports.report import Report
from fiml.exports.rows import SERIES_COLUMNS
from fiml.sessions._time_arguments import check_timezone, check_window
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.periods import Grain
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

Connection = psycopg.Connection[tuple[Any, ...]]

MANY = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags
)
select
    gen_random_uuid(), 'user ' || number %% 7, (array['equity', 'macro'])[1 + number %% 2],
    date_trunc('second', now()) - number * interval '1 s', number %% 100, number %% 5, '["AAPL"]',
    '{"price": 2}', '["tech"]'
from generate_series(1, %s) as number
"""
# Sessions of fifty days, three a day, at another time each.
DAYS = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags, abandoned
)
select
    gen_random_uuid(), 'ann', 'equity', now() - number * interval '7 h 59 min', number * 10,
    number % 5, '["AAPL"]', '{"price": 2}', '["tech"]', number % 3 = 0
from generate_series(1, 200) as number
"""


def subject(user_id: str | None = None, timezone: str = "UTC", **window: Any) -> Subject:
    zone = check_timezone(timezone)
    days = window.get("days", 30) if window.keys() <= {"days"} else None
    return Subject(user_id, None, days, check_window(window.pop("days", 30), **window), zone)


async def report_of(settings: Settings, asked: Subject, grain: Grain | None = None) -> Report:
    async with Database(settings) as database:
        return await database.run(lambda connection: read_report(connection, asked, grain))


# Reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [timedelta(days=30), timedelta(days=7), timedelta(hours=50)])
async def test_a_report_says_what_the_api_says(
    analytics: SessionAnalytics, settings: Settings, database: Connection, length: timedelta
) -> None:
    database.execute(DAYS)
    until = datetime.now(UTC) - timedelta(hours=1)
    window = {"since": until - length, "until": until}
    earlier = {"since": until - 2 * length, "until": until - length}
    report = await report_of(settings, subject(**window))
    assert report.series_before is not None
    grain = report.series["grain"]
    for figures, series, bounds in (
        (report.figures, report.series, window),
        (report.before, report.series_before, earlier),
    ):
        assert figures == await analytics.get_session_stats(**bounds)
        found = await analytics.get_session_timeseries(**bounds, grain=grain)
        assert series["periods"] == [
            {key: value for key, value in period.items() if not isinstance(value, list | dict)}
            for period in found["periods"]
        ]
        assert sum(period["total_sessions"] for period in found["periods"]) > 0


async def test_of_a_window_of_days_the_figures_are_the_documented_dictionary(
    analytics: SessionAnalytics, settings: Settings, database: Connection
) -> None:
    database.execute(DAYS)
    for days in (1, 30):
        report = await report_of(settings, subject(days=days))
        assert report.figures == await analytics.get_session_stats(days=days)
        total = sum(period["total_sessions"] for period in report.series["periods"])
        assert total == report.figures["total_sessions"] > 0


async def test_a_report_can_be_asked_for_before_it_is_written(
    analytics: SessionAnalytics, settings: Settings, database: Connection
) -> None:
    database.execute(DAYS)
    window = {"since": "2026-01-01", "until": "2026-01-20", "timezone": "Europe/Athens"}
    report = await analytics.get_session_report("ann", grain="week", **window)
    assert report.zone.key == "Europe/Athens"
    assert report.since.isoformat() == "2026-01-01T00:00:00+02:00"
    assert len(report.series["periods"]) == 4
    assert (await analytics.get_session_report(days=7)).figures["total_sessions"] == 21


async def test_all_of_a_report_is_of_one_instant(
    settings: Settings, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiml.exports import reading

    database.execute(DAYS)
    read = reading.read_figures

    async def read_and_write(*arguments: Any) -> dict[str, Any]:
        found = await read(*arguments)
        database.execute(DAYS)
        return found

    monkeypatch.setattr(reading, "read_figures", read_and_write)
    report = await report_of(settings, subject())
    periods = report.series["periods"]
    assert report.figures["total_sessions"] == 90
    assert sum(period["total_sessions"] for period in periods) == 90
    assert report.before is not None
    assert report.before["total_sessions"] == 90


async def test_what_retention_dropped_is_not_compared_with(
    settings: Settings, database: Connection
) -> None:
    database.execute(DAYS)
    database.execute("update analytics.settings set horizon = now() - interval '40 days'")
    report = await report_of(settings, subject(days=21))
    assert (report.before, report.series_before) == (None, None)
    report = await report_of(settings, subject(days=19))
    assert report.before is not None


def test_periods_fit_the_window() -> None:
    found = [fitting_grain(timedelta(days=days)) for days in (1, 3, 4, 62, 63, 365, 500)]
    assert found == ["hour", "hour", "day", "day", "week", "week", "month"]


# Rows ---------------------------------------------------------------------------------------------


def rows_of(text: object) -> list[dict[str, str]]:
    assert isinstance(text, str)
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


async def test_a_stream_has_the_rows_of_the_csv(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(MANY, [2_500])
    streamed = [rows async for rows in analytics.stream_session_metrics(session_type="macro")]
    assert [len(rows) for rows in streamed] == [1_000, 250]
    table = rows_of(await analytics.export_session_metrics("csv", session_type="macro"))
    found = [
        {name: "" if value is None else value for name, value in row.items()}
        for rows in streamed
        for row in rows
    ]
    assert found == table


async def test_windows_select_rows_as_they_select_figures(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(DAYS)
    now = datetime.now(UTC)
    for window in (
        {"hours": 30},
        {"since": now - timedelta(days=9), "until": now - timedelta(days=2)},
        {"days": 3, "until": now - timedelta(days=1)},
    ):
        stats = await analytics.get_session_stats(**window)
        rows = rows_of(await analytics.export_session_metrics("csv", **window))
        assert len(rows) == stats["total_sessions"] > 0
        assert sum(int(row["total_queries"]) for row in rows) == stats["total_queries"]


async def test_times_without_an_offset_are_local_to_the_zone(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "select gen_random_uuid(), 'equity', moment, 1 "
        "from unnest(array['2026-03-28 21:59Z', '2026-03-28 22:00Z', '2026-03-29 20:59Z', "
        "'2026-03-29 21:00Z']::timestamptz[]) as moment"
    )
    # The day on which clocks are put forward: 23 hours.
    window = {"since": "2026-03-29", "until": "2026-03-30", "timezone": "Europe/Athens"}
    rows = rows_of(await analytics.export_session_metrics("csv", **window))
    assert [row["created_at"][5:16] for row in rows] == ["03-28T22:00", "03-29T20:59"]
    figures = await analytics.export_session_metrics("json", **window)
    assert isinstance(figures, dict)
    assert figures["total_sessions"] == 2
    streamed = [rows async for rows in analytics.stream_session_metrics(**window)]
    assert list(map(len, streamed)) == [2]


async def test_with_a_grain_json_and_csv_are_the_time_series(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(DAYS)
    until = datetime.now(UTC) - timedelta(hours=1)
    asked = {"until": until, "days": 20, "timezone": "Europe/Athens", "grain": "week"}
    series = await analytics.get_session_timeseries(**asked)
    exported = await analytics.export_session_metrics("json", **asked)
    assert isinstance(exported, dict)
    assert {**exported, "as_of": None} == {**series, "as_of": None}
    rows = rows_of(await analytics.export_session_metrics("csv", **asked))
    assert [tuple(row) for row in rows] == [SERIES_COLUMNS] * len(series["periods"])
    for row, period in zip(rows, series["periods"], strict=True):
        texts = {"period_start", "period_end"}
        found = {
            name: value if name in texts else json.loads(value or "null")
            for name, value in row.items()
        }
        assert found == period


async def test_a_stream_is_of_one_snapshot(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(MANY, [2_500])
    count = 0
    async for rows in analytics.stream_session_metrics():
        database.execute("delete from session_metrics")
        count += len(rows)
    assert count == 2_500


async def test_a_stream_that_is_left_frees_its_connection(
    settings: Settings, database: Connection
) -> None:
    database.execute(MANY, [5_000])
    one = Settings(conninfo=settings.conninfo, timeout_seconds=30, pool_size=1)
    async with Database(one) as opened:
        analytics = SessionAnalytics(opened)
        for _ in range(3):
            async with aclosing(analytics.stream_session_metrics()) as batches:
                assert len(await anext(batches)) == 1_000
            assert (await analytics.get_session_stats())["total_sessions"] == 5_000
    idle = (
        "select count(*) from pg_stat_activity "
        "where state = 'idle in transaction' and datname = current_database()"
    )
    assert database.execute(idle).fetchone() == (0,)


async def test_rows_take_no_memory_however_many_they_are(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(MANY, [30_000])
    count = 0
    tracemalloc.start()
    try:
        async for rows in analytics.stream_session_metrics():
            count += len(rows)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 30_000
    # All of them would be forty.
    assert most < 8_000_000


async def test_a_slow_consumer_takes_its_time(settings: Settings, database: Connection) -> None:
    database.execute(MANY, [3_000])
    hasty = Settings(conninfo=settings.conninfo, timeout_seconds=1)
    async with Database(hasty) as opened:
        count = 0
        async for rows in SessionAnalytics(opened).stream_session_metrics():
            # Longer than the deadline, and than a transaction may be idle otherwise.
            await asyncio.sleep(2.5 if count == 1_000 else 0)
            count += len(rows)
    assert count == 3_000


async def test_a_batch_that_does_not_come_is_a_deadline(
    settings: Settings, database: Connection
) -> None:
    hasty = Settings(conninfo=settings.conninfo, timeout_seconds=1)
    async with Database(hasty) as opened:
        analytics = SessionAnalytics(opened)
        with database.transaction():
            database.execute("lock table session_metrics in access exclusive mode")
            with pytest.raises(DeadlineExceededError):
                await anext(analytics.stream_session_metrics())
        assert [rows async for rows in analytics.stream_session_metrics()] == []


KILL = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
where datname = current_database() and application_name = 'session-analytics'
"""


async def test_a_connection_that_breaks_in_the_middle_is_an_error(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(MANY, [5_000])
    batches = analytics.stream_session_metrics()
    await anext(batches)
    database.execute(KILL)
    with pytest.raises(DatabaseUnavailableError):
        async for _ in batches:
            pass


async def test_a_connection_that_broke_before_is_replaced(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(MANY, [10])
    await analytics.get_session_stats()
    database.execute(KILL)
    assert [len(rows) async for rows in analytics.stream_session_metrics()] == [10]


async def test_wrong_arguments_of_a_stream_are_refused_at_the_call(
    analytics: SessionAnalytics,
) -> None:
    with pytest.raises(UnknownSessionTypeError):
        analytics.stream_session_metrics(session_type="stocks")
