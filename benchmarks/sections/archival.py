"""Archival of expired sessions beside a plain copy of the same rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import sql

from benchmarks.bench import Bench
from benchmarks.generator import add_expired
from benchmarks.measure import seconds_of
from fiml.database import Database
from fiml.sessions.archival import archive_expired

__all__ = ["run"]

_SESSIONS: Final = 20_000
_ROUNDS: Final = 3
_TABLES: Final = ("sessions", "session_metrics")
_FLOORS: Final = {"bare": "including defaults", "indexed": "including all"}
_CONNECTIONS: Final = {"archival": None, "one_connection": 1}

# What was written last: as many rows as a round archives.
_COPIED: Final = (
    """
    create table benchmark.batch_session_metrics as
    select * from public.session_metrics order by recorded_at desc limit %s
    """,
    """
    create table benchmark.batch_sessions as
    select sessions.*
    from public.sessions
    inner join benchmark.batch_session_metrics on batch_session_metrics.session_id = sessions.id
    """,
)


def run(bench: Bench) -> dict[str, Any]:
    """Sessions a second, as the project archives and by one connection, and those of two floors.

    `bare` has neither index nor constraint nor trigger; `indexed` has the same indexes and
    constraints, and no trigger. Both are given finished rows, sessions and metrics alike, by one
    connection.
    """
    sessions = min(_SESSIONS, bench.options.most_rows, bench.scale.sessions)
    connection = bench.connection
    # What was waiting before has no history, and is not measured.
    _archive(bench, None)
    for floor, what in _FLOORS.items():
        for table in _TABLES:
            connection.execute(
                f"create table benchmark.{floor}_{table} (like public.{table} {what})"
            )
    seconds = dict.fromkeys((*_CONNECTIONS, *_FLOORS), 0.0)
    archived = 0
    try:
        for number in range(_ROUNDS):
            for name, connections in _CONNECTIONS.items():
                bench.note(f"archive {sessions} sessions, round {number + 1}: {name}")
                _let_expire(bench, sessions)
                seconds[name] += seconds_of(partial(_archive, bench, connections))
            archived += sessions
            connection.execute(_COPIED[0], [sessions])
            connection.execute(_COPIED[1])
            for floor in _FLOORS:
                seconds[floor] += seconds_of(partial(_copy, connection, floor))
            for table in _TABLES:
                connection.execute(f"drop table benchmark.batch_{table}")
    finally:
        for table in _TABLES:
            for copy in ("batch", *_FLOORS):
                connection.execute(f"drop table if exists benchmark.{copy}_{table}")
    bench.folding.fold()
    bench.folding.prune()
    rates = {name: round(archived / taken) for name, taken in seconds.items()}
    return {
        "sessions": archived,
        "batch_size": bench.settings.archive_batch_size,
        "connections": bench.settings.archive_connections,
        "sessions_per_second": rates["archival"],
        "one_connection_per_second": rates["one_connection"],
        "bare_copy_per_second": rates["bare"],
        "indexed_copy_per_second": rates["indexed"],
        "share_of_bare_copy": round(rates["archival"] / rates["bare"], 3),
        "share_of_indexed_copy": round(rates["archival"] / rates["indexed"], 3),
    }


def _let_expire(bench: Bench, sessions: int) -> None:
    now = datetime.now(UTC)
    add_expired(bench.connection, bench.numbers(sessions), now - timedelta(hours=2), now)
    bench.folding.fold()
    bench.connection.execute("vacuum (analyze) sessions")


def _archive(bench: Bench, connections: int | None) -> None:
    settings = bench.settings
    if connections is not None:
        settings = replace(settings, archive_connections=connections)

    async def archive() -> None:
        async with Database(settings) as database:
            await archive_expired(database)

    bench.runner.run(archive())


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
