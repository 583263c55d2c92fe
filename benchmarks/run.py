"""A run at one scale: make the database, fill it, fold it, measure, and drop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import psycopg

from benchmarks.bench import Bench, Options
from benchmarks.database import PREFIX, Server, mark_complete, own_database
from benchmarks.generator import active_sessions, generate
from benchmarks.project import Folder
from benchmarks.results import circumstances, save_results
from benchmarks.scale import Scale
from fiml.errors import DatabaseError
from fiml.sessions.migrations import migrate
from fiml.settings import Settings

__all__ = ["SECTIONS", "run"]

# Those that only read come first: what the others add is dated after the history's present, where a
# reader looks row by row.
SECTIONS: Final = (
    "reads",
    "windows",
    "disk",
    "process",
    "callers",
    "folding",
    "unseen",
    "busy",
    "live",
    "archival",
    "rebuild",
)
_READING: Final = frozenset(SECTIONS[:5])

# Longer than any contender's answer: no deadline is measured here.
_TIMEOUT_SECONDS: Final = 600.0
# The present of the history is on no boundary of any bucket.
_BEFORE_THE_HOUR: Final = timedelta(minutes=23, seconds=17)


def run(
    server: Server,
    scale: Scale,
    options: Options,
    sections: Sequence[str],
    results_folder: Path,
    *,
    is_kept: bool = False,
    note: Callable[[str], None] = lambda _: None,
    database_name: str | None = None,
) -> Mapping[str, Any]:
    """Measure the sections at one scale, write each result as soon as it is there, return them all.

    Args:
        server: where the database is made.
        scale: how much history.
        options: what to measure.
        sections: of `SECTIONS`, in any order.
        results_folder: where the results' file is.
        is_kept: leave the database for the next run, and use what that left.
        note: hears what is being done.
        database_name: default: `bench_` and the scale.

    Raises:
        DifferentAnswerError: two contenders answered differently.
        DatabaseError: a section that reads was asked of a database that a run before has added to.
        DatabaseError, psycopg.Error: the server cannot do what was asked.
    """
    name = database_name or f"{PREFIX}{scale}"
    measured: dict[str, Any] = {}
    with (
        own_database(server, name, is_kept=is_kept) as (conninfo, is_filled),
        TemporaryDirectory(prefix="session-analytics-bench-") as folder,
    ):
        settings = replace(
            Settings.from_environment(),
            conninfo=conninfo,
            source_schema="public",
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        if not is_filled:
            measured["load"] = _fill(settings, scale, note)
            mark_complete(server, name)
        anchor = _anchor(conninfo)
        if is_filled and not _READING.isdisjoint(sections):
            _refuse_additions(conninfo, anchor, name)
        with Bench(settings, scale, anchor, options, Path(folder), note) as bench:
            machine = circumstances(bench.connection)
            for section in SECTIONS:
                if section not in sections:
                    continue
                note(section)
                module = import_module(f"benchmarks.sections.{section}")
                measured[section] = module.run(bench)
                save_results(results_folder, scale, machine, measured)
    return measured


def _fill(settings: Settings, scale: Scale, note: Callable[[str], None]) -> dict[str, Any]:
    note("migrate")
    migrate(settings.conninfo, settings.source_schema)
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        anchor = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - _BEFORE_THE_HOUR
        connection.execute("create schema benchmark")
        connection.execute("create table benchmark.anchor (anchor timestamptz not null)")
        connection.execute("insert into benchmark.anchor values (%s)", [anchor])
        # A superuser can keep the rows out of the change feed, which the rebuild does not need.
        is_superuser = connection.execute("show is_superuser").fetchall()[0][0] == "on"
        began = perf_counter()
        generate(
            connection,
            scale,
            anchor,
            with_triggers=not is_superuser,
            on_progress=lambda fraction: note(f"generate: {fraction:.0%}"),
        )
        generated = perf_counter() - began
        note("first fold")
        folder = Folder(connection, settings)
        began = perf_counter()
        folder.rebuild()
        folded = perf_counter() - began
        folder.prune()
        connection.execute("vacuum (analyze)")
    return {
        "sessions": scale.sessions,
        "active_sessions": active_sessions(scale),
        "with_triggers": not is_superuser,
        "generate_seconds": round(generated, 2),
        "first_fold_seconds": round(folded, 2),
    }


def _anchor(conninfo: str) -> datetime:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("select anchor from benchmark.anchor").fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise psycopg.DataError("the database does not say what its history's present is")
    return row[0].astimezone(UTC)


def _refuse_additions(conninfo: str, anchor: datetime, name: str) -> None:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "select count(*) from session_metrics where created_at >= %s", [anchor]
        ).fetchone()
    if row is not None and row[0]:
        raise DatabaseError(
            f"{name} was kept with {row[0]} sessions after its history's present, which reads "
            "would look at one by one; drop it, or measure other sections"
        )
