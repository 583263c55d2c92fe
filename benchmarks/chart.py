"""The chart: what a read costs, against the number of sessions and against the window's length."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.results import Results
from benchmarks.scale import Scale

__all__ = ["write_chart"]

# name: label, colour, line width.
_LINES: Final = {
    "orm": ("rows through an ORM", "#b07aa1", 1.4),
    "statement": ("one SQL statement", "#e15759", 1.4),
    "clickhouse": ("embedded ClickHouse", "#f28e2b", 1.4),
    "duckdb": ("DuckDB", "#edc948", 1.4),
    "marts": ("daily marts, summed", "#76b7b2", 1.4),
    "reader": ("this reader", "#1f4e9c", 2.6),
    "floor": ("SELECT 1", "#888888", 1.4),
}
_DAYS: Final = 30


def write_chart(results: Mapping[Scale, Results], path: Path) -> bool:
    """Draw the platform's figures; False, and no file, where matplotlib is not installed."""
    try:
        matplotlib = import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        return False
    by_scale = _against_scale(results)
    largest = max((scale for scale in results if _cells(results[scale])), default=None)
    if largest is None:
        return False
    by_days = _against_days(results[largest])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.4), sharey=True, dpi=130)
    _draw(left, by_scale, [scale.sessions for scale in results], [str(scale) for scale in results])
    left.set_xlabel("archived sessions")
    left.set_title(f"a {_DAYS}-day answer, by number of sessions", fontsize=10)
    left.set_ylabel("median of one full answer, ms")
    days = sorted({number for line in by_days.values() for number in line})
    _draw(right, by_days, days, [str(number) for number in days])
    right.set_xlabel("days of the window")
    right.set_title(f"at {largest} sessions, by length of the window", fontsize=10)
    handles, labels = left.get_legend_handles_labels()
    more = dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))
    both = {**dict(zip(labels, handles, strict=True)), **more}
    figure.legend(
        list(both.values()), list(both), loc="lower center", ncol=4, frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    # No date in it: the same results make the same file.
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _draw(
    axes: Any, lines: Mapping[str, Mapping[int, float]], ticks: list[int], labels: list[str]
) -> None:
    for name, (label, colour, width) in _LINES.items():
        points = lines.get(name)
        if points:
            axes.plot(
                list(points),
                list(points.values()),
                marker="o",
                markersize=4,
                color=colour,
                linewidth=width,
                label=label,
                linestyle="--" if name == "floor" else "-",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, labels)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _against_scale(results: Mapping[Scale, Results]) -> dict[str, dict[int, float]]:
    lines: dict[str, dict[int, float]] = {}
    for scale, found in results.items():
        cell = _cells(found).get(_DAYS)
        for name, figures in (cell or {"contenders": {}})["contenders"].items():
            lines.setdefault(name, {})[scale.sessions] = figures["median_ms"]
    return lines


def _against_days(found: Results) -> dict[str, dict[int, float]]:
    lines: dict[str, dict[int, float]] = {}
    for days, cell in sorted(_cells(found).items()):
        for name, figures in cell["contenders"].items():
            lines.setdefault(name, {})[days] = figures["median_ms"]
    return lines


def _cells(found: Results) -> dict[int, Any]:
    cells = found["sections"].get("reads", {"cells": []})["cells"]
    return {cell["days"]: cell for cell in cells if cell["scope"] == "platform"}
