"""Rows, one for each session of a window."""

from __future__ import annotations

from typing import Final

__all__ = ["session_metrics_rows"]

# Values as text, exactly as they are stored.
_SESSION_METRICS_ROWS: Final = """
with clock as materialized (
    select
        coalesce(%(as_of)s::timestamptz, transaction_timestamp()) as as_of,
        coalesce(%(as_of)s::timestamptz, transaction_timestamp())
            - %(days)s::integer * interval '24 hours' as since
)
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
from clock
inner join analytics.session_metrics_rows as rows
    on rows.created_at >= clock.since and rows.created_at < clock.as_of
where {conditions}
order by rows.created_at, rows.session_id
"""


def session_metrics_rows(*, has_user: bool, has_type: bool) -> str:
    """A row for each session of the window, filtered by user, by type, by both or by neither."""
    conditions = ["true"]
    if has_user:
        conditions.append("rows.user_id = %(user_id)s::text")
    if has_type:
        conditions.append("rows.session_type = %(session_type)s::text")
    return _SESSION_METRICS_ROWS.format(conditions=" and ".join(conditions))
