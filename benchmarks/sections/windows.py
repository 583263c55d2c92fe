"""Windows of all lengths in turns: does the cost of a read grow with the window?

In `reads` they are measured one after another, and what the machine does meanwhile looks like
growth.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.contenders import Contender, open_contenders
from benchmarks.measure import interleaved
from benchmarks.questions import Scope
from benchmarks.sections.reads import PassingTime

__all__ = ["run"]

_SCOPES: Final = ("platform", "type")


def run(bench: Bench) -> list[dict[str, Any]]:
    """For each scope the reader over the windows, and how many times the shortest one's cost."""
    with open_contenders(bench.ground, ["reader"], lambda _: None) as (contenders, _missing):
        return [
            _scope(bench, contenders["reader"], name)
            for name in _SCOPES
            if name in bench.options.scopes
        ]


def _scope(bench: Bench, reader: Contender, name: str) -> dict[str, Any]:
    days = sorted(bench.options.days)
    time = PassingTime(bench)
    scopes = {number: bench.scope(name, number) for number in days}

    def seconds(scope: Scope, number: int) -> float:
        return reader.seconds(time.question(scope, number))

    timings = interleaved(
        {
            str(number): lambda number=number: seconds(scopes[number], number)  # type: ignore[misc]
            for number in days
        },
        bench.options.effort,
        floor=str(days[0]),
    )
    shortest = timings[str(days[0])]
    return {
        "scope": name,
        "days": days,
        "windows": [timings[str(number)].figures(shortest) for number in days],
    }
