"""What was promised, beside what was measured: computed from the results of all scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.results import Results
from benchmarks.scale import Scale

__all__ = ["Verdict", "verdicts"]

_100K, _1M, _5M, _10M = (Scale(number) for number in (100_000, 1_000_000, 5_000_000, 10_000_000))
_MOST_X: Final = {_100K: 6.0, _1M: 6.0, _5M: 8.0, _10M: 9.0}
_FOLDS: Final = {
    "new_20": ("fold of 20 new sessions", 50.0),
    "new_1000": ("fold of 1 000 new sessions", 500.0),
    "late_1": ("fold of one session 90 days late", 100.0),
    "erased_1000": ("fold of an erasure of 1 000 sessions over 180 days", 5_000.0),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar at one scale.

    Attributes:
        what: what is measured.
        scale: where; empty where it is about several.
        bar: what was promised.
        found: what was measured.
        is_met: whether that is enough.
    """

    what: str
    scale: str
    bar: str
    found: str
    is_met: bool


def verdicts(results: Mapping[Scale, Results]) -> list[Verdict]:
    """A verdict for each bar that something was measured for, in the order of the contract."""
    rules: tuple[Callable[[Mapping[Scale, Results]], Iterator[Verdict]], ...] = (
        _windows,
        _growth,
        _users,
        _rivals,
        _live,
        _unseen,
        _callers,
        _archival,
        _folds,
        _rebuild,
        _process,
    )
    return [verdict for rule in rules for verdict in rule(results)]


def _at_most(what: str, scale: object, bar: float, found: float, unit: str = "x") -> Verdict:
    return Verdict(what, str(scale), f"<= {bar:g} {unit}", f"{found:.4g} {unit}", found <= bar)


def _at_least(what: str, scale: object, bar: float, found: float, unit: str = "x") -> Verdict:
    return Verdict(
        what,
        str(scale),
        f">= {_grouped(bar)} {unit}",
        f"{_grouped(float(f'{found:.4g}'))} {unit}",
        found >= bar,
    )


def _grouped(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ") if number >= 1000 else f"{number:g}"


def _cells(results: Results) -> dict[tuple[str, int], dict[str, Any]]:
    reads = results["sections"].get("reads", {"cells": []})
    return {(cell["scope"], cell["days"]): cell for cell in reads["cells"]}


def _ratios(results: Results, scopes: tuple[str, ...]) -> dict[tuple[str, int], float]:
    return {
        key: cell["contenders"]["reader"]["ratio"]
        for key, cell in _cells(results).items()
        if key[0] in scopes and "ratio" in cell["contenders"].get("reader", {})
    }


def _windows(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, found in results.items():
        bar = next((most for size, most in _MOST_X.items() if scale <= size), None)
        ratios = _ratios(found, ("platform", "type"))
        if bar is not None and ratios:
            yield _at_most(
                "platform and one type, slowest window", scale, bar, max(ratios.values())
            )


def _growth(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    scales = [scale for scale in results if _ratios(results[scale], ("platform", "type"))]
    if len(scales) > 1:
        small, large = (
            _ratios(results[scale], ("platform", "type")) for scale in (scales[0], scales[-1])
        )
        grown = [large[key] / small[key] for key in small.keys() & large.keys()]
        if grown:
            yield _at_most(
                "growth with the number of sessions",
                f"{scales[0]} to {scales[-1]}",
                2.5,
                max(grown),
            )
    in_turns = dict(_sections(results, "windows"))
    for scale in scales:
        ratios = _ratios(results[scale], ("platform", "type"))
        days = sorted({key[1] for key in ratios})
        if scale in in_turns:
            # Without what the machine did between one cell and the next.
            ratios = {
                (row["scope"], number): window["ratio"]
                for row in in_turns[scale]
                for number, window in zip(row["days"], row["windows"], strict=True)
            }
            days = sorted({key[1] for key in ratios})
        grown = [
            ratios[scope, days[-1]] / ratios[scope, days[0]]
            for scope in ("platform", "type")
            if (scope, days[0]) in ratios and (scope, days[-1]) in ratios
        ]
        if len(days) > 1 and grown:
            yield _at_most(f"growth from {days[0]} to {days[-1]} days", scale, 1.2, max(grown))


def _users(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scope, what, bar in (
        ("user", "a user with up to 100 sessions in the window", 6.0),
        ("heaviest", "the heaviest user", 30.0),
    ):
        for scale, found in results.items():
            if ratios := _ratios(found, (scope,)):
                yield _at_most(what, scale, bar, max(ratios.values()))


def _rivals(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for rival, what, bar in (
        ("duckdb", "ahead of DuckDB, platform, 30 days", 50.0),
        ("statement", "ahead of one SQL statement, platform, 30 days", 1800.0),
    ):
        cell = _cells(results[_5M]).get(("platform", 30)) if _5M in results else None
        if cell and "times_reader" in cell["contenders"].get(rival, {}):
            yield _at_least(what, _5M, bar, cell["contenders"][rival]["times_reader"])


def _live(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, live in _sections(results, "live"):
        slower = [
            live["live"][scope]["median_ms"] / live["quiet"][scope]["median_ms"]
            for scope in ("platform", "type", "user")
            if scope in live["live"] and scope in live["quiet"]
        ]
        yield _at_most(
            f"reads beside {live['sessions_per_second']:.0f} sessions/s for "
            f"{live['seconds']:.0f} s, p50, of quiet; {live['answers_checked']} answers exact",
            scale,
            2.0,
            max(slower),
        )


def _unseen(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, cells in _sections(results, "unseen"):
        # Fewer rows cost less than the differences between two runs of the same.
        costs = [
            cell["us_per_row"]
            for cell in cells
            if "us_per_row" in cell and cell["unseen"] >= 10_000
        ]
        if costs:
            yield _at_most("an unseen feed row", scale, 15.0, max(costs), "us")


def _callers(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, rows in _sections(results, "callers"):
        for row in rows:
            if row["clients"] == 64 and row["processes"] == 1:
                yield _at_least(
                    "64 callers, one process, throughput of `SELECT 1`'s",
                    scale,
                    12.0,
                    row["share_of_floor"] * 100,
                    "%",
                )
                yield _at_most("64 callers, p99 of p50", scale, 8.0, row["p99_of_p50"])


def _archival(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, archival in _sections(results, "archival"):
        yield _at_least("archival", scale, 20_000, archival["sessions_per_second"], "sessions/s")
        for share, tables in (
            ("share_of_bare_copy", "bare tables"),
            ("share_of_indexed_copy", "tables with the same indexes and constraints"),
        ):
            yield _at_least(
                f"archival, of a plain `insert ... select` into {tables}",
                scale,
                40.0,
                archival[share] * 100,
                "%",
            )


def _folds(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    measured = dict(_sections(results, "folding"))
    for name, (what, bar) in _FOLDS.items():
        for scale, folding in measured.items():
            if scale <= _5M and name in folding:
                yield _at_most(what, scale, bar, folding[name]["fold"]["median_ms"], "ms")
        if _100K in measured and _5M in measured and name in measured[_5M]:
            small, large = (measured[scale][name]["fold"]["median_ms"] for scale in (_100K, _5M))
            yield _at_most(f"{what}, of its cost at 100k", _5M, 2.0, large / small)


def _rebuild(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    measured = dict(_sections(results, "rebuild"))
    for scale, rebuild in measured.items():
        yield _at_least(
            "rebuild from scratch", scale, 20_000, rebuild["sessions_per_second"], "sessions/s"
        )
    peaks = {
        scale: rebuild["backend_private_mb"]
        for scale, rebuild in measured.items()
        if rebuild["backend_private_mb"]
    }
    # Up to a million everything still fits into what the server may use anyway.
    large = {scale: peak for scale, peak in peaks.items() if scale >= _1M}
    if len(large) > 1:
        first, *_, last = large
        yield _at_most(
            f"memory of a rebuild, of {large[first]:g} MB at {first}",
            last,
            1.2,
            large[last] / large[first],
        )


def _process(results: Mapping[Scale, Results]) -> Iterator[Verdict]:
    for scale, process in _sections(results, "process"):
        yield _at_most("import of the reader", scale, 350.0, process["import"]["median_ms"], "ms")
        yield _at_most(
            "memory of a process that only reads", scale, 90.0, process["reading_peak_mb"], "MB"
        )


def _sections(results: Mapping[Scale, Results], name: str) -> Iterator[tuple[Scale, Any]]:
    for scale, found in results.items():
        if name in found["sections"]:
            yield scale, found["sections"][name]
