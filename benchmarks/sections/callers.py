"""Many callers at once: throughput, p50 and p99 beside `SELECT 1` under the same load."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.children import child, result_of
from benchmarks.measure import percentile

__all__ = ["run"]

_WORKLOAD: Final = "benchmarks.workload"
# Floor and reader take turns.
_TURNS: Final = 2


def run(bench: Bench) -> list[dict[str, Any]]:
    """A row for each number of callers, in one process and in two."""
    rows = []
    for clients in bench.options.clients:
        for processes in (1, 2):
            if processes > clients:
                continue
            bench.note(f"{clients} callers in {processes} process{'es' * (processes > 1)}")
            rows.append(_row(bench, clients, processes))
    return rows


def _row(bench: Bench, clients: int, processes: int) -> dict[str, Any]:
    seconds = bench.options.load_seconds / _TURNS
    task = {
        "conninfo": bench.settings.conninfo,
        "slices": [
            {"is_floor": is_floor, "clients": clients // processes, "seconds": seconds}
            for _ in range(_TURNS)
            for is_floor in (True, False)
        ],
    }
    with ExitStack() as stack:
        # Two processes are in the same slice, but for the moments between two of them.
        children = [stack.enter_context(child(_WORKLOAD, task)) for _ in range(processes)]
        results = [result_of(process) for process in children]
    taken: dict[bool, list[float]] = {True: [], False: []}
    for result in results:
        for slice_ in result["slices"]:
            taken[slice_["is_floor"]] += slice_["taken"]
    measured_seconds = seconds * _TURNS
    floor, reader = (_figures(taken[is_floor], measured_seconds) for is_floor in (True, False))
    return {
        "clients": clients,
        "processes": processes,
        "floor": floor,
        "reader": reader,
        "share_of_floor": round(reader["per_second"] / floor["per_second"], 4),
        "p99_of_p50": round(reader["p99_ms"] / reader["p50_ms"], 2),
        "peak_mb": max(result["peak_mb"] for result in results),
    }


def _figures(taken: list[float], seconds: float) -> dict[str, float]:
    return {
        "per_second": round(len(taken) / seconds, 1),
        "p50_ms": round(percentile(taken, 50) * 1000, 3),
        "p99_ms": round(percentile(taken, 99) * 1000, 3),
    }
