"""Everything from scratch: how fast, and with how much memory."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from benchmarks.bench import Bench
from benchmarks.measure import seconds_of
from benchmarks.memory import MemoryWatch
from benchmarks.project import Folder

__all__ = ["run"]

_FLOOR: Final = "insert into benchmark.copied select * from public.session_metrics"


def run(bench: Bench) -> dict[str, Any]:
    """Sessions a second beside a plain `insert ... select` of the rows that are read."""
    # More than the scale says: other sections archive some.
    (sessions,) = bench.connection.execute("select count(*) from session_metrics").fetchone()
    bench.note("rebuild everything from scratch")
    # A connection of its own, so that the peak is this work's.
    with psycopg.connect(bench.settings.conninfo, autocommit=True) as connection:
        folder = Folder(connection, bench.settings)
        before = _temporary_bytes(bench)
        with MemoryWatch(folder.backend_pid) as memory:
            seconds = seconds_of(folder.rebuild)
    spilled = _temporary_bytes(bench) - before
    bench.note("copy the rows, for the floor")
    bench.connection.execute(
        "create table benchmark.copied (like public.session_metrics including defaults)"
    )
    try:
        copied = seconds_of(lambda: bench.connection.execute(_FLOOR))
    finally:
        bench.connection.execute("drop table benchmark.copied")
        bench.folding.prune()
        bench.connection.execute("vacuum (analyze)")
    return {
        "sessions": sessions,
        "seconds": round(seconds, 2),
        "sessions_per_second": round(sessions / seconds),
        "plain_copy_per_second": round(sessions / copied),
        "share_of_plain_copy": round(copied / seconds, 3),
        "backend_private_mb": memory.private_mb,
        "backend_peak_mb": memory.peak_mb,
        "temporary_mb": round(spilled / 2**20),
    }


def _temporary_bytes(bench: Bench) -> int:
    row = bench.connection.execute(
        "select pg_stat_clear_snapshot(), temp_bytes from pg_stat_database "
        "where datname = current_database()"
    ).fetchone()
    return int(row[1]) if row else 0
