"""Every documented Python snippet runs as it is written, and does what it says.

The pages in `snippets/` hold the documented text; the names that it leaves open are fixtures here.
"""

import ast
import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fiml.cache import cache_manager
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.sessions.models import QueryRecord, Session, SessionType
from fiml.sessions.store import SessionStore, get_session_store
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

PAGES = Path(__file__).parent / "snippets"
SNIPPET = re.compile(r"^## ([^\n]+)\n.*?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SNIPPETS = {
    (page.stem, heading): text
    for page in sorted(PAGES.glob("*.md"))
    for heading, text in SNIPPET.findall(page.read_text(encoding="utf-8"))
}

Run = Callable[..., Any]
used: set[tuple[str, str]] = set()


def snippet(page: str, heading: str) -> Any:
    """Runs one snippet with the open names and returns all names it leaves."""
    used.add((page, heading))

    async def run(**names: Any) -> dict[str, Any]:
        text = SNIPPETS[page, heading]
        if sys.version_info < (3, 12):
            # A backslash inside an f-string's braces: the join's separator gets a name instead.
            text = text.replace(r"{'\n'.join(", "{newline.join(")
            names["newline"] = "\n"
        code = compile(
            text, f"{page}.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        left = eval(code, names)  # noqa: S307 - our own pages
        if inspect.iscoroutine(left):
            await left
        return names

    return run


initialise_and_read = snippet("reading", "Initialise and read")
filter_strategically = snippet("reading", "Filter")
engagement = snippet("questions", "Engagement")
trending_assets = snippet("questions", "Trending assets")
most_used_queries = snippet("questions", "Most used queries")
segments = snippet("questions", "Segments")
platform_health = snippet("questions", "Platform health")
two_groups_or_periods = snippet("questions", "Two groups or periods")
archive = snippet("recording", "Archive")
tag = snippet("recording", "Tag")
record = snippet("recording", "Record")
archive_and_record = snippet("recording", "Archive and record at once")
dashboard_widget = snippet("integrating", "Dashboard widget")
email_report = snippet("integrating", "Email report")
monitoring = snippet("integrating", "Monitoring")
caching = snippet("integrating", "Caching")


def test_every_snippet_of_the_pages_is_run() -> None:
    fences = sum(page.read_text().count("```python\n") for page in PAGES.glob("*.md"))
    assert used == SNIPPETS.keys()
    assert len(SNIPPETS) == fences


@pytest.fixture
async def session_store(migrated_database: str) -> AsyncIterator[SessionStore]:
    async with SessionStore(Settings(conninfo=migrated_database, timeout_seconds=30)) as store:
        yield store


@pytest.fixture
def analytics(session_store: SessionStore) -> SessionAnalytics:
    return SessionAnalytics(session_store._session_maker)


@pytest.fixture
def database(migrated_database: str) -> Any:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


async def end(
    store: SessionStore, user_id: str = "analyst_001", *, days_ago: int = 0, **given: Any
) -> Session:
    """A session of two queries, ended; started so many days ago."""
    session = await store.create_session(
        **{"assets": ["AAPL"], "session_type": "equity", "user_id": user_id, "tags": ["tech"]}
        | given
    )
    for query_type in ("price", "fundamentals"):
        await store.add_query(session.id, QueryRecord(query_type=query_type))
    await store.archive_session(session.id)
    return session


async def expire(store: SessionStore, database: Any, **given: Any) -> Session:
    """A session without a query whose time is up, and which nobody archived."""
    session = await store.create_session(
        **{"assets": ["AAPL"], "session_type": "equity", "user_id": "user_123"} | given
    )
    database.execute(
        "update sessions set created_at = now() - interval '2 h', "
        "expires_at = now() - interval '1 h' where id = %s",
        [session.id],
    )
    return session


# reading ----------------------------------------------------------------------------------------


async def test_initialising_and_reading(
    session_store: SessionStore, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(session_store)
    await end(session_store, session_type="macro")
    await end(session_store, "somebody else")
    monkeypatch.setenv("DATABASE_URL", migrated_database)
    left = await initialise_and_read()
    try:
        assert left["session_store"] is await get_session_store()
        assert left["stats"]["total_sessions"] == 2
        assert (left["stats"]["user_id"], left["stats"]["period_days"]) == ("analyst_001", 30)
        assert left["equity_stats"]["total_sessions"] == 1
        assert left["equity_stats"]["session_type_breakdown"] == {"equity": 1}
        assert left["platform_stats"]["total_sessions"] == 3
        assert left["platform_stats"]["user_id"] is None
    finally:
        await left["session_store"].shutdown()


async def test_filtering(session_store: SessionStore, analytics: SessionAnalytics) -> None:
    await end(session_store, session_type="macro")
    await end(session_store, "somebody else")
    left = await filter_strategically(analytics=analytics)
    assert left["equity_stats"]["session_type_breakdown"] == {"equity": 1}
    assert left["user_stats"]["session_type_breakdown"] == {"macro": 1}


# questions --------------------------------------------------------------------------------------


async def test_the_engagement_score_is_queries_of_the_sessions_that_were_not_abandoned(
    session_store: SessionStore, analytics: SessionAnalytics, database: Any
) -> None:
    await end(session_store, "user_123")
    await expire(session_store, database)
    await session_store.archive_expired_sessions()
    left = await engagement(analytics=analytics)
    assert left["stats"]["abandonment_rate"] == 0.5
    assert left["engagement_score"] == 1.0 * 0.5


async def test_trending_assets_are_the_first_five(
    session_store: SessionStore, analytics: SessionAnalytics
) -> None:
    await end(session_store, assets=["F", "E", "D", "C", "B", "A"])
    await end(session_store, assets=["F"])
    left = await trending_assets(analytics=analytics)
    assert left["trending_assets"] == [
        {"symbol": "F", "count": 2},
        *({"symbol": symbol, "count": 1} for symbol in "ABCD"),
    ]


async def test_the_most_used_query_type_comes_with_its_count(
    session_store: SessionStore, analytics: SessionAnalytics
) -> None:
    session = await session_store.create_session(["AAPL"], "equity")
    for _ in range(3):
        await session_store.add_query(session.id, QueryRecord(query_type="news"))
    await session_store.archive_session(session.id)
    await end(session_store)
    left = await most_used_queries(analytics=analytics)
    assert left["most_used_queries"] == ("news", 3)


@pytest.mark.parametrize(
    ("sessions", "segment"), [(5, "occasional_user"), (6, "regular_user"), (21, "power_user")]
)
async def test_users_fall_into_segments_by_their_sessions(
    session_store: SessionStore,
    analytics: SessionAnalytics,
    database: Any,
    sessions: int,
    segment: str,
) -> None:
    for _ in range(sessions):
        await expire(session_store, database)
    await session_store.archive_expired_sessions()
    left = await segments(analytics=analytics)
    assert left["segment"] == segment


@pytest.mark.parametrize("is_abandoned", [False, True])
async def test_an_alert_goes_out_when_sessions_are_abandoned(
    session_store: SessionStore, analytics: SessionAnalytics, database: Any, is_abandoned: bool
) -> None:
    alerts: list[str] = []
    await end(session_store)
    if is_abandoned:
        await expire(session_store, database)
        await session_store.archive_expired_sessions()
    await platform_health(analytics=analytics, send_alert=alerts.append)
    assert alerts == (["High session abandonment detected"] if is_abandoned else [])


async def test_two_periods_are_compared_by_their_difference(
    session_store: SessionStore, analytics: SessionAnalytics
) -> None:
    await end(session_store)
    left = await two_groups_or_periods(analytics=analytics)
    assert left["week1_stats"]["avg_queries_per_session"] == 2.0
    assert left["improvement"] == 0.0


# recording --------------------------------------------------------------------------------------


async def test_expired_sessions_are_archived(
    session_store: SessionStore, analytics: SessionAnalytics, database: Any
) -> None:
    await expire(session_store, database)
    await session_store.create_session(["AAPL"], "equity")
    await archive(session_store=session_store)
    stats = await analytics.get_session_stats()
    assert (stats["total_sessions"], stats["archived_sessions"]) == (1, 1)
    assert (stats["active_sessions"], stats["abandonment_rate"]) == (1, 1.0)


async def test_a_session_carries_its_tags_into_the_figures(
    session_store: SessionStore, analytics: SessionAnalytics
) -> None:
    left = await tag(session_store=session_store, SessionType=SessionType)
    session = left["session"]
    assert session.type is SessionType.EQUITY
    assert session.tags == ["tech", "research", "long-term"]
    await session_store.archive_session(session.id)
    assert (await analytics.get_session_stats())["popular_tags"] == [
        {"tag": name, "count": 1} for name in ("long-term", "research", "tech")
    ]


async def test_metrics_are_recorded_when_a_session_completes(
    session_store: SessionStore,
) -> None:
    session = await session_store.create_session(["AAPL"], "equity", "analyst_001")
    left = await record(session_store=session_store, session=session)
    stats = await left["analytics"].get_session_stats()
    assert (stats["total_sessions"], stats["active_sessions"]) == (1, 1)


async def test_archiving_and_recording_at_once_counts_a_session_once(
    session_store: SessionStore, analytics: SessionAnalytics, database: Any
) -> None:
    assert (await analytics.get_session_stats())["message"] == NO_METRICS_MESSAGE
    session = await expire(session_store, database)
    for _ in range(2):
        await archive_and_record(session_store=session_store, analytics=analytics, session=session)
        stats = await analytics.get_session_stats()
        assert (stats["total_sessions"], stats["archived_sessions"]) == (1, 1)
        # What the archival found stays: expired with fewer than two queries.
        assert stats["abandonment_rate"] == 1.0


# integrating ------------------------------------------------------------------------------------


async def test_the_dashboard_shows_a_user_s_week(
    session_store: SessionStore, database: Any
) -> None:
    left = await dashboard_widget(SessionAnalytics=SessionAnalytics, session_store=session_store)
    get_dashboard_metrics = left["get_dashboard_metrics"]
    assert await get_dashboard_metrics("user_123") == {
        "sessions_this_week": 0,
        "active_now": 0,
        "avg_session_time": "0.0 min",
        "engagement_rate": "100.0%",
        "top_asset": "N/A",
    }
    await expire(session_store, database, assets=["TSLA"])
    await session_store.archive_expired_sessions()
    await end(session_store, "user_123", assets=["TSLA", "AAPL"])
    await session_store.create_session(["AAPL"], "equity", "user_123")
    assert await get_dashboard_metrics("user_123") == {
        "sessions_this_week": 2,
        "active_now": 1,
        # An hour, and none.
        "avg_session_time": "30.0 min",
        "engagement_rate": "50.0%",
        "top_asset": "TSLA",
    }


async def test_the_weekly_report_lists_figures_assets_and_types(
    session_store: SessionStore,
) -> None:
    await end(session_store, assets=["TSLA", "AAPL"])
    await end(session_store, assets=["TSLA"], session_type="macro")
    await session_store.create_session(["AAPL"], "equity", "analyst_001")
    left = await email_report(SessionAnalytics=SessionAnalytics, session_store=session_store)
    report = await left["generate_weekly_report"]("analyst_001")
    assert [line.strip() for line in report.strip().splitlines()] == [
        "Weekly Activity Report",
        "=====================",
        "",
        "Sessions: 2 (1 active)",
        "Total Queries: 4",
        "Avg Session Duration: 0.0 minutes",
        "",
        "Most Analyzed Assets:",
        "- TSLA (2 times)",
        "- AAPL (1 times)",
        "",
        "Session Types:",
        "- equity: 1",
        "- macro: 1",
    ]


async def test_monitoring_tells_silence_abandonment_and_low_engagement_apart(
    session_store: SessionStore, database: Any
) -> None:
    left = await monitoring(SessionAnalytics=SessionAnalytics, session_store=session_store)
    monitor_platform_health = left["monitor_platform_health"]
    assert await monitor_platform_health() == [
        "No sessions created recently",
        "Low engagement detected",
    ]
    await expire(session_store, database)
    await session_store.archive_expired_sessions()
    assert await monitor_platform_health() == [
        "High abandonment rate detected",
        "Low engagement detected",
    ]
    for _ in range(3):
        await end(session_store)
    assert await monitor_platform_health() == ["Low engagement detected"]
    session = await session_store.create_session(["AAPL"], "equity")
    for _ in range(4):
        await session_store.add_query(session.id, QueryRecord(query_type="price"))
    await session_store.archive_session(session.id)
    # Ten queries of five sessions.
    assert await monitor_platform_health() == []


async def test_a_cached_answer_stays_for_its_question_and_answers_no_other(
    session_store: SessionStore,
) -> None:
    cache_manager.clear()
    try:
        left = await caching(SessionAnalytics=SessionAnalytics, session_store=session_store)
        get_cached_analytics = left["get_cached_analytics"]
        await end(session_store)
        first = await get_cached_analytics("analyst_001", 7)
        assert first["total_sessions"] == 1
        await end(session_store)
        assert await get_cached_analytics("analyst_001", 7) == first
        assert await get_cached_analytics(days=7, user_id="analyst_001") == first
        other = await get_cached_analytics("somebody else", 7)
        assert (other["user_id"], other["total_sessions"]) == ("somebody else", 0)
        longer = await get_cached_analytics("analyst_001", 30)
        assert (longer["period_days"], longer["total_sessions"]) == (30, 2)
        cache_manager.clear()
        assert (await get_cached_analytics("analyst_001", 7))["total_sessions"] == 2
    finally:
        cache_manager.clear()
