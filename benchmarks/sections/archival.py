"""Archival of expired sessions, batch by batch, beside a plain copy of the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import sql

from benchmarks.bench import Bench
from benchmarks.generator import add_expired
from benchmarks.measure import seconds_of

__all__ = ["run"]

_MOST_SESSIONS: Final = 50_000
_TABLES: Final = ("sessions", "session_metrics")

_ARCHIVE: Final = "select archived, quarantined from analytics.archive_expired_sessions(%s)"

# What the batch wrote: its transaction gave all its rows one time.
_BATCH: Final = (
    """
    create table benchmark.batch_session_metrics as
    select * from public.session_metrics
    where recorded_at = (select max(recorded_at) from public.session_metrics)
    """,
    """
    create table benchmark.batch_sessions as
    select * from public.sessions
    where id in (select session_id from benchmark.batch_session_metrics)
    """,
)


def run(bench: Bench) -> dict[str, Any]:
    """Sessions a second, and the same of two floors.

    `bare` has neither index nor constraint nor trigger; `indexed` has the same indexes and
    constraints, and no trigger. Both are given finished rows, sessions and metrics alike.
    """
    sessions = min(_MOST_SESSIONS, bench.options.most_rows, bench.scale.sessions)
    batch_size = bench.settings.archive_batch_size
    connection = bench.connection
    bench.note(f"let {sessions} sessions expire")
    # What was waiting before has no history, and is not measured.
    connection.execute(_ARCHIVE, [1_000_000])
    now = datetime.now(UTC)
    add_expired(connection, bench.numbers(sessions), now - timedelta(hours=2), now)
    bench.folding.fold()
    connection.execute("vacuum (analyze) sessions")
    floors = {"bare": "including defaults", "indexed": "including all"}
    for floor, what in floors.items():
        for table in _TABLES:
            connection.execute(
                f"create table benchmark.{floor}_{table} (like public.{table} {what})"
            )
    seconds = dict.fromkeys(("archival", *floors), 0.0)
    archived = 0
    connection.execute("set jit = off")
    try:
        while True:
            bench.note(f"archive {archived} of {sessions}")
            taken = seconds_of(archive := _Batch(connection, batch_size))
            if archive.archived == 0:
                break
            archived += archive.archived
            seconds["archival"] += taken
            for statement in _BATCH:
                connection.execute(statement)
            for floor in floors:
                seconds[floor] += seconds_of(partial(_copy, connection, floor))
            for table in _TABLES:
                connection.execute(f"drop table benchmark.batch_{table}")
    finally:
        for table in _TABLES:
            for copy in ("batch", *floors):
                connection.execute(f"drop table if exists benchmark.{copy}_{table}")
        connection.execute("reset jit")
    bench.folding.fold()
    bench.folding.prune()
    rates = {name: round(archived / taken) for name, taken in seconds.items()}
    return {
        "sessions": archived,
        "batch_size": batch_size,
        "sessions_per_second": rates["archival"],
        "bare_copy_per_second": rates["bare"],
        "indexed_copy_per_second": rates["indexed"],
        "share_of_bare_copy": round(rates["archival"] / rates["bare"], 3),
        "share_of_indexed_copy": round(rates["archival"] / rates["indexed"], 3),
    }


class _Batch:
    """One batch of archival."""

    def __init__(self, connection: psycopg.Connection[Any], size: int) -> None:
        self._connection = connection
        self._size = size
        self.archived = 0

    def __call__(self) -> None:
        """Archive it."""
        self.archived = self._connection.execute(_ARCHIVE, [self._size]).fetchall()[0][0]


def _copy(connection: psycopg.Connection[Any], floor: str) -> None:
    with connection.transaction():
        for table, columns in _COLUMNS.items():
            connection.execute(
                sql.SQL("insert into {} ({}) select {} from {}").format(
                    sql.Identifier("benchmark", f"{floor}_{table}"),
                    *[sql.SQL(", ").join(map(sql.Identifier, columns))] * 2,
                    sql.Identifier("benchmark", f"batch_{table}"),
                )
            )


# A copy with the generated columns would not be allowed to be given them.
_COLUMNS: Final = {
    "sessions": (
        *("id", "user_id", "type", "tags", "is_archived", "archived_at", "created_at", "assets"),
        *("expires_at", "last_accessed_at", "state", "query_history", "total_queries"),
    ),
    "session_metrics": (
        *("id", "session_id", "user_id", "session_type", "created_at", "duration_seconds"),
        *("total_queries", "cache_hit_rate", "avg_query_time_ms", "assets_analyzed"),
        *("query_type_summary", "completed_normally", "abandoned", "tags", "recorded_at"),
    ),
}
