"""Figures as the documented dictionaries; see docs/response.md."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fiml.sessions.figures import Figures, Names
from fiml.sessions.periods import Grain, Period
from fiml.sessions.queries import MetaRow

__all__ = ["NO_METRICS_MESSAGE", "meta_response", "series_response", "stats_response"]

NO_METRICS_MESSAGE: Final = (
    "No session metrics available yet. Create sessions to start tracking analytics."
)


def stats_response(
    figures: Figures,
    *,
    user_id: str | None,
    session_type: str | None,
    window: dict[str, Any],
    is_open: bool = True,
) -> dict[str, Any]:
    """The documented dictionary; `window` says which one it is, in keys of its own."""
    response = {"status": "success"} | _sums(figures, is_open=is_open) | window
    response |= {"user_id": user_id, "session_type": session_type} | _names(figures.names)
    if figures.sessions == 0:
        response["message"] = NO_METRICS_MESSAGE
    return response


def series_response(
    periods: Sequence[tuple[Period, Figures]],
    *,
    user_id: str | None,
    session_type: str | None,
    grain: Grain,
    zone: ZoneInfo,
    window: dict[str, Any],
) -> dict[str, Any]:
    """The documented dictionary of a time series."""
    response: dict[str, Any] = {
        "status": "success",
        "grain": str(grain),
        "timezone": zone.key,
        **window,
        "user_id": user_id,
        "session_type": session_type,
        "periods": [
            {
                "period_start": _instant(period.starts_at, zone),
                "period_end": _instant(period.ends_at, zone),
                "is_open": period.is_open,
                "is_partial": period.is_partial,
                **_sums(figures, is_open=period.is_open),
                **_names(figures.names),
            }
            for period, figures in periods
        ],
    }
    if not any(figures.sessions for _, figures in periods):
        response["message"] = NO_METRICS_MESSAGE
    return response


def meta_response(row: MetaRow) -> dict[str, Any]:
    """Where an answer came from."""
    return {
        "as_of": row.as_of.isoformat(),
        "window_start": row.window_start.isoformat(),
        "horizon": None if row.horizon is None else row.horizon.isoformat(),
        "path": row.path,
        "watermark": row.watermark,
        "serving_rows": row.serving_rows,
        "mart_rows": row.mart_rows,
        "tail_rows": row.tail_rows,
        "source_rows": row.source_rows,
        "set_aside_values": row.set_aside_values,
    }


def _sums(figures: Figures, *, is_open: bool) -> dict[str, Any]:
    sessions = figures.sessions
    return {
        "total_sessions": sessions,
        # Nobody knows any more which were active then.
        "active_sessions": figures.active_sessions if is_open else None,
        "archived_sessions": figures.archived_sessions,
        "total_queries": figures.queries,
        "avg_duration_seconds": _ratio(figures.duration_seconds, sessions, 2),
        "avg_queries_per_session": _ratio(figures.queries, sessions, 2),
        "abandonment_rate": _ratio(figures.abandoned_sessions, sessions, 4),
    }


def _names(names: Names | None) -> dict[str, Any]:
    if names is None:
        return {}
    return {
        "top_assets": [{"symbol": name, "count": count} for name, count in names.assets],
        "query_type_distribution": dict(names.query_types),
        "session_type_breakdown": dict(names.session_types),
        "popular_tags": [{"tag": name, "count": count} for name, count in names.tags],
    }


def _instant(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat()


def _ratio(total: int, count: int, places: int) -> float:
    """`total / count`, rounded half-up to `places` in whole numbers; a float only at the end."""
    if count == 0:
        return 0.0
    shift: int = 10**places
    return ((2 * total * shift + count) // (2 * count)) / shift
