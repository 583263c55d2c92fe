"""Reads while everything is folded, or rebuilt from scratch, without a pause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any, Final

import psycopg

from benchmarks.bench import Bench
from benchmarks.contenders.pooled import Floor, Reader
from benchmarks.generator import add_archived, remove
from benchmarks.measure import Effort, Timing, interleaved
from benchmarks.project import Folder
from benchmarks.questions import Scope
from benchmarks.sections.reads import PassingTime

__all__ = ["run"]

_DAYS: Final = 30
_ROWS_OF_A_FOLD: Final = 20
_SUBJECTS: Final = ("platform", "type")


def run(bench: Bench) -> dict[str, Any]:
    """Medians in a quiet database, beside folds and beside rebuilds."""
    result: dict[str, Any] = {}
    for name, work in (("quiet", None), ("folds", _fold_new_rows), ("rebuilds", _rebuild)):
        bench.note(f"read beside {name}" if work else "read in quiet")
        timings, rounds = _read_beside(bench, work)
        result[name] = {
            "rounds_of_work": rounds,
            "reads": {
                subject: timings[subject].figures(timings["floor"])
                for subject in ("floor", *_SUBJECTS)
            },
        }
    bench.folding.fold()
    bench.folding.prune()
    return result


def _read_beside(
    bench: Bench, work: Callable[[Bench, Folder], None] | None
) -> tuple[dict[str, Timing], int]:
    floor, reader, time = Floor(bench.ground), Reader(bench.ground), PassingTime(bench)
    everybody = Scope("platform")
    subjects: dict[str, Callable[[], float]] = {
        "floor": lambda: floor.seconds(time.question(everybody, _DAYS))
    }
    for name in _SUBJECTS:
        scope = bench.scope(name, _DAYS)
        subjects[name] = _subject(reader, time, scope)
    effort = Effort(seconds=bench.options.load_seconds / len(subjects), most=5_000)
    if work is None:
        return interleaved(subjects, effort), 0
    with _in_a_loop(bench, work) as rounds:
        timings = interleaved(subjects, effort)
    return timings, len(rounds)


def _subject(reader: Reader, time: PassingTime, scope: Scope) -> Callable[[], float]:
    return lambda: reader.seconds(time.question(scope, _DAYS))


@contextmanager
def _in_a_loop(bench: Bench, work: Callable[[Bench, Folder], None]) -> Iterator[list[None]]:
    """Do `work` again and again in a thread, and yield a list that grows with each round."""
    ended = Event()
    rounds: list[None] = []
    failures: list[psycopg.Error] = []

    def loop() -> None:
        try:
            with psycopg.connect(bench.settings.conninfo, autocommit=True) as connection:
                folder = Folder(connection, bench.settings)
                while not ended.is_set():
                    work(bench, folder)
                    rounds.append(None)
        except psycopg.Error as error:
            failures.append(error)

    thread = Thread(target=loop)
    thread.start()
    try:
        yield rounds
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


def _fold_new_rows(bench: Bench, folder: Folder) -> None:
    now = datetime.now(UTC)
    with psycopg.connect(bench.settings.conninfo, autocommit=True) as connection:
        numbers = bench.numbers(_ROWS_OF_A_FOLD)
        ids = add_archived(connection, numbers, now - timedelta(hours=1), now, archived_at=now)
        folder.fold()
        remove(connection, ids)


def _rebuild(bench: Bench, folder: Folder) -> None:
    del bench
    folder.rebuild()
