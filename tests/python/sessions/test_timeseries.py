"""Other windows than one of days, and time series: what the library answers."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from sessions.examples import META_KEYS, USER, write

from fiml.errors import InvalidArgumentError
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

pytestmark = pytest.mark.anyio

Connection = psycopg.Connection[tuple[Any, ...]]
HOUR = timedelta(hours=1)
FIGURES = [
    "total_sessions",
    "active_sessions",
    "archived_sessions",
    "total_queries",
    "avg_duration_seconds",
    "avg_queries_per_session",
    "abandonment_rate",
    "top_assets",
    "query_type_distribution",
    "session_type_breakdown",
    "popular_tags",
]


def write_days(database: Connection, days: int) -> None:
    """A session for each of the last days, at this time of the day, with a symbol of its own."""
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, total_queries, assets_analyzed, query_type_summary) "
        "select gen_random_uuid(), %s, 'equity', now() - number * interval '24 hours' "
        "- interval '1 minute', 60 * number, number, jsonb_build_array('S' || number), "
        "jsonb_build_object('price', number) from generate_series(1, %s) as number",
        [USER, days],
    )


@pytest.mark.parametrize("user_id", [None, USER])
async def test_a_window_of_hours_is_the_true_last_hours(
    analytics: SessionAnalytics, database: Connection, user_id: str | None
) -> None:
    write(database, 100)
    found = await analytics.get_session_stats(user_id, hours=1)
    assert found["total_sessions"] == 59
    assert list(found)[8:12] == ["period_days", "since", "until", "user_id"]
    since, until = (datetime.fromisoformat(found[end]) for end in ("since", "until"))
    assert until - since == HOUR
    assert since.utcoffset() == timedelta(0)
    assert found["period_days"] is None
    assert (await analytics.get_session_stats(user_id, hours=48))["period_days"] == 2
    whole = await analytics.get_session_stats(user_id)
    assert "since" not in whole
    assert whole["period_days"] == 30


async def test_two_windows_side_by_side_are_one(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write_days(database, 20)
    now = datetime.now(UTC)
    later = await analytics.get_session_stats(days=10, until=now)
    earlier = await analytics.get_session_stats(days=10, until=now - timedelta(days=10))
    whole = await analytics.get_session_stats(since=now - timedelta(days=20), until=now)
    assert (earlier["period_days"], earlier["until"]) == (10, later["since"])
    assert whole["total_sessions"] == earlier["total_sessions"] + later["total_sessions"] > 0
    assert whole["total_queries"] == earlier["total_queries"] + later["total_queries"]
    assert earlier["active_sessions"] is None


async def test_text_without_an_offset_is_local(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database)
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    found = await analytics.get_session_stats(since="2026-01-01", until=tomorrow)
    assert found["since"] == "2026-01-01T00:00:00+00:00"
    # What is ahead has not happened.
    assert datetime.fromisoformat(found["until"]) < datetime.now(UTC) + HOUR
    assert found["active_sessions"] == 0
    series = await analytics.get_session_timeseries(
        since="2026-03-29", until="2026-03-30", timezone="Europe/Athens"
    )
    assert (series["since"], series["until"]) == (
        "2026-03-28T22:00:00+00:00",
        "2026-03-29T21:00:00+00:00",
    )
    assert [(period["period_start"], period["period_end"]) for period in series["periods"]] == [
        ("2026-03-29T00:00:00+02:00", "2026-03-30T00:00:00+03:00")
    ]


@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize("user_id", [None, USER])
@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
async def test_periods_are_together_the_window(
    analytics: SessionAnalytics,
    database: Connection,
    grain: str,
    user_id: str | None,
    is_built: bool,
) -> None:
    write_days(database, 30)
    if is_built:
        fold(database, load_marts(Settings.from_environment()), "a run")
    until = datetime.now(UTC)
    question: dict[str, Any] = {"user_id": user_id, "days": 12, "until": until}
    whole = await analytics.get_session_stats(**question)
    series = await analytics.get_session_timeseries(
        **question, grain=grain, timezone="America/St_Johns", include_meta=True
    )
    assert list(series["meta"]) == META_KEYS
    assert series["meta"]["path"] == ("serving" if is_built and not user_id else "source")
    periods = series["periods"]
    assert [list(period)[4:] for period in periods] == [FIGURES] * len(periods)
    for figure in ("total_sessions", "total_queries", "archived_sessions"):
        assert sum(period[figure] for period in periods) == whole[figure]
    assert whole["total_sessions"] == 11
    counted = {row["symbol"] for period in periods for row in period["top_assets"]}
    assert {row["symbol"] for row in whole["top_assets"]} <= counted
    instants = [(period["period_start"], period["period_end"]) for period in periods]
    assert all(one[1] == two[0] for one, two in pairwise(instants))
    assert periods[0]["is_partial"]


async def test_periods_without_anything_are_there_unless_nobody_wants_them(
    analytics: SessionAnalytics, database: Connection
) -> None:
    empty = await analytics.get_session_timeseries(days=7)
    assert len(empty["periods"]) == 8
    assert [period["is_open"] for period in empty["periods"]] == [False] * 7 + [True]
    assert [period["active_sessions"] for period in empty["periods"]] == [None] * 7 + [0]
    assert empty["message"] == NO_METRICS_MESSAGE
    write_days(database, 3)
    series = await analytics.get_session_timeseries(days=7, fill=False)
    assert "message" not in series
    assert [period["total_sessions"] for period in series["periods"]] == [1, 1, 1]
    assert (await analytics.get_session_timeseries(days=7, fill=False, user_id="eve"))[
        "periods"
    ] == []


async def test_a_window_may_be_too_long_for_its_grain(analytics: SessionAnalytics) -> None:
    assert len((await analytics.get_session_timeseries(days=3650))["periods"]) == 3651
    with pytest.raises(InvalidArgumentError, match="more than 3700"):
        await analytics.get_session_timeseries(days=155, grain="hour")
