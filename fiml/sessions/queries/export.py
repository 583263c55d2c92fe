"""Rows, one for each session of a window."""

from __future__ import annotations

from typing import Final

__all__ = ["LONG_PAUSES", "SESSION_COLUMNS", "SNAPSHOT", "has_begun", "session_metrics_rows"]

# In a transaction that was begun: one snapshot for all of its statements.
SNAPSHOT: Final = "set transaction isolation level repeatable read, read only"
# Whoever takes rows one after the other may look at them meanwhile; ten minutes are no oversight.
LONG_PAUSES: Final = "select set_config('idle_in_transaction_session_timeout', '600000', true)"

SESSION_COLUMNS: Final = (
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
)

# Values as text, exactly as they are stored.
_SESSION_METRICS_ROWS: Final = """
select
    rows.session_id::text,
    rows.user_id::text,
    rows.session_type::text,
    to_char(rows.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') as created_at,
    rows.duration_seconds::text,
    rows.total_queries::text,
    rows.cache_hit_rate::text,
    rows.avg_query_time_ms::text,
    rows.assets_analyzed::text,
    rows.query_type_summary::text,
    rows.tags::text,
    rows.completed_normally::text,
    rows.abandoned::text
from analytics.session_metrics_rows as rows
where {conditions}
order by rows.created_at, rows.session_id
"""


def session_metrics_rows(*, has_user: bool, has_type: bool) -> str:
    """A row for each session of the window, filtered by user, by type, by both or by neither.

    Its columns are SESSION_COLUMNS.
    """
    return _SESSION_METRICS_ROWS.format(
        conditions=_conditions(
            "rows.created_at >= %(since)s::timestamptz",
            "rows.created_at < %(until)s::timestamptz",
            has_user=has_user,
            has_type=has_type,
        )
    )


# Behind the horizon of a retention nobody knows when it began.
_HAS_BEGUN: Final = """
select
    isfinite(analytics.horizon())
    or exists (
        select from analytics.session_metrics_rows as rows
        where {conditions}
    ) as has_begun
"""


def has_begun(*, has_user: bool, has_type: bool) -> str:
    """Whether a session is as old as an instant, or may have been."""
    return _HAS_BEGUN.format(
        conditions=_conditions(
            "rows.created_at <= %(at)s::timestamptz", has_user=has_user, has_type=has_type
        )
    )


def _conditions(*of_time: str, has_user: bool, has_type: bool) -> str:
    conditions = list(of_time)
    if has_user:
        conditions.append("rows.user_id = %(user_id)s::text")
    if has_type:
        conditions.append("rows.session_type = %(session_type)s::text")
    return " and ".join(conditions)
