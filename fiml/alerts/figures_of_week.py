"""What a weekly report says: the figures of the library, in the words of a letter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fiml.alerts.model import Report
from fiml.alerts.weeks import Week
from fiml.sessions.analytics import SessionAnalytics

__all__ = ["body_values"]

_MOST_NAMED: Final = 10
_LINES: Final = (
    ("Sessions", "total_sessions"),
    ("Archived sessions", "archived_sessions"),
    ("Queries", "total_queries"),
    ("Queries per session", "avg_queries_per_session"),
    ("Average duration", "avg_duration_seconds"),
    ("Abandonment rate", "abandonment_rate"),
)


async def body_values(report: Report, week: Week, analytics: SessionAnalytics) -> Mapping[str, Any]:
    """What the templates `report.txt` and `report.html` are filled in with.

    Raises:
        DatabaseError: the database did not answer; see its subclasses.
    """
    of_whom: dict[str, Any] = {"user_id": report.user_id, "session_type": report.session_type}
    stats = await analytics.get_session_stats(
        **of_whom, since=week.since, until=week.until, include_meta=True
    )
    before = await analytics.get_session_stats(
        **of_whom, since=week.before.since, until=week.before.until
    )
    series = await analytics.get_session_timeseries(
        **of_whom, since=week.since, until=week.until, grain="day", timezone=week.zone
    )
    return {
        "report": report,
        "week": week,
        "stats": stats,
        "as_of": datetime.fromisoformat(stats["meta"]["as_of"]),
        "lines": [
            {
                "label": label,
                "shown": _shown(key, stats[key]),
                "change": _change(key, stats[key], before[key]),
            }
            for label, key in _LINES
        ],
        "days": _days(series["periods"]),
        "rankings": _rankings(stats),
    }


def _days(periods: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    most = max((period["total_sessions"] for period in periods), default=0)
    return [
        {
            "label": f"{datetime.fromisoformat(period['period_start']):%a %Y-%m-%d}",
            "sessions": f"{period['total_sessions']:,}",
            "queries": f"{period['total_queries']:,}",
            "percent": 100 * period["total_sessions"] // most if most else 0,
        }
        for period in periods
    ]


def _rankings(stats: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    counted = {
        "Most analyzed assets": [(row["symbol"], row["count"]) for row in stats["top_assets"]],
        "Session types": list(stats["session_type_breakdown"].items()),
        "Query types": list(stats["query_type_distribution"].items()),
        "Popular tags": [(row["tag"], row["count"]) for row in stats["popular_tags"]],
    }
    return [
        {
            "title": title,
            "rows": [{"name": name, "shown": f"{count:,}"} for name, count in counts[:_MOST_NAMED]],
        }
        for title, counts in counted.items()
    ]


def _shown(key: str, value: float) -> str:
    match key:
        case "abandonment_rate":
            return f"{value:.2%}"
        case "avg_duration_seconds":
            minutes, seconds = divmod(int(value), 60)
            return f"{minutes:,} min {seconds:02} s"
        case "avg_queries_per_session":
            return f"{value:,.2f}"
        case _:
            return f"{value:,}"


def _change(key: str, value: float, before: float) -> str:
    """Against the week before: of a rate in points, of anything else in percent."""
    if key == "abandonment_rate":
        return f"{100 * (value - before):+.2f} points" if value != before else "no change"
    if value == before:
        return "no change"
    return f"{100 * (value - before) / before:+.1f} %" if before else "none before"
