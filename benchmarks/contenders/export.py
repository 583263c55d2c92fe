"""The two tables as files, for engines with storage of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.contenders.base import Ground

__all__ = ["metrics_file", "sessions_file"]

_METRICS: Final = """
copy (
    select
        coalesce(user_id, '') as user_id, session_type, created_at at time zone 'UTC',
        duration_seconds, total_queries, abandoned::integer, assets_analyzed, tags,
        query_type_summary
    from session_metrics
    order by created_at
) to stdout (format csv)
"""

_SESSIONS: Final = """
copy (
    select
        coalesce(user_id, '') as user_id, type, is_archived::integer,
        coalesce(archived_at at time zone 'UTC', '1970-01-01') as archived_at,
        coalesce(expires_at at time zone 'UTC', '1970-01-01') as expires_at
    from sessions
    order by archived_at
) to stdout (format csv)
"""


def metrics_file(ground: Ground) -> Path:
    """user_id, session_type, created_at, duration_seconds, total_queries, abandoned, JSON texts."""
    return _exported(ground, "metrics.csv", _METRICS)


def sessions_file(ground: Ground) -> Path:
    """user_id, type, is_archived, archived_at, expires_at."""
    return _exported(ground, "sessions.csv", _SESSIONS)


def _exported(ground: Ground, name: str, statement: str) -> Path:
    """Written by the first that asks for it; times are UTC without a zone."""
    path = ground.folder / name
    if not path.exists():
        partial = path.with_suffix(".partial")
        with psycopg.connect(ground.conninfo) as connection:
            _copy(connection, statement, partial)
        partial.rename(path)
    return path


def _copy(connection: psycopg.Connection[Any], statement: str, path: Path) -> None:
    with connection.cursor().copy(statement.encode()) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)
