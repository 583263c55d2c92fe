"""Folds of what is new, late or erased, into everything that is kept up by folding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.generator import DAYS, add_archived, remove
from benchmarks.measure import Timing, seconds_of

__all__ = ["run"]

# new sessions: how often they are folded.
_NEW: Final = {1: 15, 20: 15, 1_000: 5, 100_000: 1}
_LATE_DAYS: Final = 90
_LATE_ROUNDS: Final = 15
_ERASED: Final = 1_000
_ERASURE_ROUNDS: Final = 3
_ERASED_USER: Final = "benchmark_erased_user"


def run(bench: Bench) -> dict[str, Any]:
    """A row for each kind of change; the floor is a fold of nothing, and SELECT 1."""
    # A first fold of a connection plans its statements.
    _timed_fold(bench)
    rows: dict[str, dict[str, Any]] = {}
    for count, rounds in _NEW.items():
        if count <= min(bench.options.most_rows, bench.scale.sessions):
            bench.note(f"fold {count} new sessions")
            rows[f"new_{count}"] = _measured(bench, rounds, _new(bench, count))
    bench.note(f"fold one session {_LATE_DAYS} days late")
    rows["late_1"] = _measured(bench, _LATE_ROUNDS, _late(bench))
    erased = min(_ERASED, bench.options.most_rows)
    bench.note(f"erase {erased} sessions")
    rows[f"erased_{erased}"] = _measured(bench, _ERASURE_ROUNDS, _erased(bench, erased))
    return rows


def _measured(bench: Bench, rounds: int, change: Callable[[], tuple[float, Timing]]) -> Any:
    writes: list[float] = []
    folds: list[float] = []
    nothings: list[float] = []
    floors: list[float] = []
    for _ in range(rounds):
        floors.append(seconds_of(lambda: bench.connection.execute("select 1")))
        nothings.append(_timed_fold(bench))
        written, folded = change()
        writes.append(written)
        folds.extend(folded.taken)
    bench.folding.prune()
    floor = Timing(tuple(floors))
    return {
        "fold": Timing(tuple(folds)).figures(floor),
        "fold_of_nothing": Timing(tuple(nothings)).figures(floor),
        "write_ms": round(Timing(tuple(writes)).median * 1000, 3),
        "floor_ms": round(floor.median * 1000, 4),
    }


def _timed_fold(bench: Bench) -> float:
    return seconds_of(bench.folding.fold)


def _new(bench: Bench, count: int) -> Callable[[], tuple[float, Timing]]:
    def change() -> tuple[float, Timing]:
        now = datetime.now(UTC)
        return _arrive(bench, bench.numbers(count), now - timedelta(hours=1), now)

    return change


def _late(bench: Bench) -> Callable[[], tuple[float, Timing]]:
    def change() -> tuple[float, Timing]:
        begin = bench.anchor - timedelta(days=_LATE_DAYS)
        return _arrive(bench, bench.numbers(1), begin, begin + timedelta(hours=1))

    return change


def _arrive(bench: Bench, numbers: range, begin: datetime, end: datetime) -> tuple[float, Timing]:
    ids: list[Any] = []

    def write() -> None:
        ids.extend(
            add_archived(bench.connection, numbers, begin, end, archived_at=datetime.now(UTC))
        )

    written = seconds_of(write)
    folded = Timing((_timed_fold(bench),))
    bench.folding.require_folded()
    remove(bench.connection, ids)
    bench.folding.fold()
    return written, folded


def _erased(bench: Bench, count: int) -> Callable[[], tuple[float, Timing]]:
    def change() -> tuple[float, Timing]:
        add_archived(
            bench.connection,
            bench.numbers(count),
            bench.anchor - timedelta(days=DAYS),
            bench.anchor,
            user_id=_ERASED_USER,
        )
        bench.folding.fold()
        written = seconds_of(
            lambda: bench.connection.execute("select analytics.erase_user(%s)", [_ERASED_USER])
        )
        folded = Timing((_timed_fold(bench),))
        bench.folding.require_folded()
        bench.connection.execute("select analytics.forget_erasure(%s)", [_ERASED_USER])
        return written, folded

    return change
