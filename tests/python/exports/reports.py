"""Reports that nobody read from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fiml.exports.report import Report
from fiml.sessions.figures import Figures, Names
from fiml.sessions.periods import Grain, divide
from fiml.sessions.response import series_response, stats_response

__all__ = ["NOON", "figures", "made_up"]

# A Monday.
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def figures(sessions: int = 8, **names: Any) -> Figures:
    """Figures of so many sessions."""
    counted: dict[str, Any] = {
        "session_types": [("equity", sessions)] if sessions else [],
        "query_types": [("price", 3 * sessions), ("news", 2 * sessions)] if sessions else [],
        "assets": [("AAPL", sessions)] if sessions else [],
        "tags": [("tech", sessions)] if sessions else [],
    }
    return Figures(
        sessions=sessions,
        active_sessions=3,
        archived_sessions=sessions,
        queries=5 * sessions,
        duration_seconds=601 * sessions,
        abandoned_sessions=sessions // 4,
        names=Names(**(counted | names)),
    )


def made_up(
    *,
    days: int = 30,
    grain: Grain = Grain.DAY,
    user_id: str | None = None,
    sessions: Callable[[int], int] = lambda number: 8 + number % 5,
    has_before: bool = True,
    is_open: bool = True,
    zone: str = "UTC",
    **names: Any,
) -> Report:
    """A report of a window that ends at noon, with so many sessions in each period."""
    until, length = NOON, timedelta(days=days)
    as_of = NOON if is_open else NOON + timedelta(days=1)
    window = {"since": (until - length).isoformat(), "until": until.isoformat()}
    whose = {"user_id": user_id, "session_type": None}

    def series(until: datetime, as_of: datetime) -> dict[str, Any]:
        periods = divide(until - length, until, grain, ZoneInfo(zone), as_of)
        return series_response(
            [(period, figures(sessions(number))) for number, period in enumerate(periods)],
            grain=grain,
            zone=ZoneInfo(zone),
            window={**window, "as_of": as_of.isoformat()},
            **whose,
        )

    now = series(until, as_of)
    total = sum(period["total_sessions"] for period in now["periods"])
    return Report(
        stats_response(
            figures(total, **names), window={"period_days": days}, is_open=is_open, **whose
        ),
        now,
        stats_response(figures(200), window={"period_days": days}, is_open=False, **whose)
        if has_before
        else None,
        series(until - length, as_of) if has_before else None,
    )
