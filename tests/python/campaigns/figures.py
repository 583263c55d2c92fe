"""Every row of the marts, computed naively in Python from the two source tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from exactness.oracle import counts_in, names_in, set_aside_values
from psycopg.rows import dict_row

__all__ = ["expected_rows"]

Rows = dict[str, list[tuple[Any, ...]]]


def expected_rows(connection: psycopg.Connection[Any]) -> Rows:
    """What each mart must hold, sorted as `World.rows` sorts; users by the key they have."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            select
                coalesce(user_keys.user_key, analytics.anonymous_key()) as user_key,
                metrics.session_type, metrics.total_queries, metrics.duration_seconds,
                metrics.abandoned, metrics.completed_normally,
                metrics.cache_hit_rate::text as cache_hit_rate,
                metrics.avg_query_time_ms::text as avg_query_time_ms,
                metrics.assets_analyzed::text as assets, metrics.tags::text as tags,
                metrics.query_type_summary::text as query_types,
                extract(epoch from metrics.created_at)::text as at
            from session_metrics as metrics
            left join analytics.user_keys on metrics.user_id = user_keys.user_id
            where isfinite(metrics.created_at)
            """
        )
        metrics = cursor.fetchall()
        cursor.execute(
            """
            select
                coalesce(user_keys.user_key, analytics.anonymous_key()) as user_key,
                sessions.type as session_type, extract(epoch from sessions.archived_at)::text as at
            from sessions
            left join analytics.user_keys on sessions.user_id = user_keys.user_id
            where sessions.is_archived and isfinite(sessions.archived_at)
            """
        )
        archivals = cursor.fetchall()

    stats: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    users: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    names: dict[str, Counter[tuple[Any, ...]]] = defaultdict(Counter)
    for row in metrics:
        day, kind = _day(row["at"]), row["session_type"]
        figures = Counter(
            sessions=1,
            queries=max(row["total_queries"], 0),
            duration_seconds=max(row["duration_seconds"], 0),
            abandoned_sessions=int(row["abandoned"]),
            completed_sessions=int(row["completed_normally"] and not row["abandoned"]),
        )
        stats[day, kind].update(figures)
        stats[day, kind]["set_aside_values"] += set_aside_values(row)
        users[day, row["user_key"], kind].update(figures)
        names["daily_asset_counts"].update((day, kind, name) for name in names_in(row["assets"]))
        names["daily_tag_counts"].update((day, kind, name) for name in names_in(row["tags"]))
        for name, count in counts_in(row["query_types"]).items():
            names["daily_query_type_counts"][day, kind, name] += count
    for row in archivals:
        day, kind = _day(row["at"]), row["session_type"]
        stats[day, kind]["archived_sessions"] += 1
        users[day, row["user_key"], kind]["archived_sessions"] += 1

    sums = ("sessions", "queries", "duration_seconds", "abandoned_sessions", "completed_sessions")
    rows = {
        "daily_session_stats": [
            (*key, *(row[name] for name in (*sums, "archived_sessions", "set_aside_values")))
            for key, row in stats.items()
        ],
        "daily_user_stats": [
            (*key, *(row[name] for name in (*sums, "archived_sessions")))
            for key, row in users.items()
        ],
        **{
            mart: [(*key, count) for key, count in names[mart].items()]
            for mart in ("daily_asset_counts", "daily_tag_counts", "daily_query_type_counts")
        },
    }
    return {mart: sorted(found, key=repr) for mart, found in rows.items()}


def _day(seconds: str) -> str:
    # As text, like the rows of a world, which has days that Python does not know.
    return datetime.fromtimestamp(int(Decimal(seconds) // 1), UTC).date().isoformat()
