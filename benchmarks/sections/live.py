"""Reads while 50 sessions a second are archived and folded every second, each answer checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, cycle
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from psycopg import IsolationLevel

from benchmarks.answers import difference
from benchmarks.bench import Bench
from benchmarks.children import child, result_of
from benchmarks.contenders.pooled import Floor, Now
from benchmarks.contenders.statement import answer_by_statement
from benchmarks.measure import Timing
from benchmarks.project import Reader, folding_every_second
from benchmarks.questions import Question, Scope
from benchmarks.sections.reads import DifferentAnswerError

__all__ = ["run"]

_PER_SECOND: Final = 50
_READS_PER_SECOND: Final = 25.0
_CHECK_EVERY_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 60.0
_DAYS: Final = 30
# The statement that answers are checked by takes seconds over a long window of many sessions, and
# would be what is measured.
_DAYS_OF_A_CHECK: Final = 1
_SCOPES: Final = ("platform", "type", "user")


def run(bench: Bench) -> dict[str, Any]:
    """Medians in quiet and live, how many answers were checked, and what was written meanwhile.

    Raises:
        DifferentAnswerError: an answer was not that of the raw rows in the same snapshot.
    """
    seconds = bench.options.live_seconds
    bench.folding.fold()
    bench.note("read in quiet")
    quiet = _phase(bench, min(_QUIET_SECONDS, seconds))
    with folding_every_second(bench.settings, bench.note), _traffic(bench) as traffic:
        live = _phase(bench, seconds, of_note=f"of {seconds:.0f} s live")
        written = result_of_traffic(traffic)
    bench.folding.fold()
    bench.folding.prune()
    return {
        "seconds": seconds,
        "sessions_per_second": written["per_second"],
        "archived": written["archived"],
        "answers_checked": quiet.pop("answers_checked") + live.pop("answers_checked"),
        "quiet": quiet,
        "live": live,
    }


def _phase(bench: Bench, seconds: float, of_note: str | None = None) -> dict[str, Any]:
    """Read at an even pace, so that the reader does not take the machine from the writers."""
    floor, reader = Floor(bench.ground), Now(bench.ground)
    scopes = {name: bench.scope(name, _DAYS) for name in _SCOPES}
    taken: dict[str, list[float]] = {name: [] for name in ("floor", *_SCOPES)}
    names = cycle(taken)
    checked, next_check, next_note = 0, monotonic(), monotonic()
    began = monotonic()
    for reads in count(1):
        now = monotonic()
        if now - began >= seconds:
            break
        if of_note is not None and now >= next_note:
            bench.note(f"{now - began:.0f} {of_note}")
            next_note = now + 10
        name = next(names)
        scope = scopes.get(name, Scope("platform"))
        contender = floor if name == "floor" else reader
        taken[name].append(contender.seconds(Question(scope, _DAYS, datetime.now(UTC))))
        if now >= next_check:
            _check(bench, scope, _DAYS_OF_A_CHECK)
            checked += 1
            next_check = now + _CHECK_EVERY_SECONDS
        sleep(max(0.0, began + reads / _READS_PER_SECOND - monotonic()))
    _check(bench, scopes["platform"], _DAYS)
    timings = {name: Timing(tuple(values)) for name, values in taken.items() if values}
    return {
        "answers_checked": checked + 1,
        **{name: timing.figures(timings["floor"]) for name, timing in timings.items()},
    }


def _check(bench: Bench, scope: Scope, days: int) -> None:
    """Compare the reader with the raw rows, both in one snapshot."""
    question, found, expected = bench.runner.run(_both(bench.settings.conninfo, scope, days))
    differing = difference(found, expected)
    if differing is not None:
        raise DifferentAnswerError(f"while sessions arrive, for {question}: {differing}")


async def _both(conninfo: str, scope: Scope, days: int) -> tuple[Question, Any, Any]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(
            "select set_config('plan_cache_mode', 'force_generic_plan', false), "
            "set_config('TimeZone', 'UTC', false), set_config('jit', 'off', false)"
        )
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        async with connection.transaction():
            cursor = await connection.execute("select transaction_timestamp()")
            row = await cursor.fetchone()
            question = Question(scope, days, row[0] if row else datetime.now(UTC))
            found = await Reader().answer(connection, question)
            cursor = await connection.execute("select pg_export_snapshot()")
            exported = await cursor.fetchone()
            with psycopg.connect(conninfo) as other:
                other.isolation_level = IsolationLevel.REPEATABLE_READ
                other.execute(
                    psycopg.sql.SQL("set transaction snapshot {}").format((exported or ("",))[0])
                )
                expected = answer_by_statement(other, question)
        return question, found, expected


@contextmanager
def _traffic(bench: Bench) -> Iterator[Any]:
    numbers = bench.numbers(_PER_SECOND * (int(bench.options.live_seconds) + 60) * 2)
    task = {
        "conninfo": bench.settings.conninfo,
        "per_second": _PER_SECOND,
        "first_number": numbers.start,
    }
    with child("benchmarks.traffic", task) as process:
        yield process


def result_of_traffic(process: Any) -> dict[str, Any]:
    """Tell the writer to stop, and hear what it wrote."""
    process.stdin.close()
    process.stdin = None
    return result_of(process)
