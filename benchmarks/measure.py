"""Taking times: in turns, so that what disturbs the machine disturbs everybody."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any, Final

__all__ = ["Effort", "Timing", "interleaved", "percentile", "seconds_of"]

_SEED: Final = 20_261_123


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one subject is measured.

    Attributes:
        seconds: after as many, a subject sits out the remaining rounds ...
        fewest: ... but not before so many rounds, ...
        patience: ... unless a single round takes longer than this: then one is enough.
        most: rounds at most.
        untimed: rounds before, that are not counted.
    """

    seconds: float = 3.0
    fewest: int = 5
    patience: float = 5.0
    most: int = 200
    untimed: int = 2

    def is_enough(self, taken: Sequence[float]) -> bool:
        """Whether a subject with these times needs no further round."""
        if not taken:
            return False
        fewest = 1 if taken[0] > self.patience else self.fewest
        return len(taken) >= self.most or (len(taken) >= fewest and sum(taken) >= self.seconds)


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one subject.

    Attributes:
        taken: seconds.
        rounds: in which round each was taken.
    """

    taken: tuple[float, ...]
    rounds: tuple[int, ...] = ()

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.taken)

    @property
    def p95(self) -> float:
        """The one that 95 of 100 do not exceed."""
        return percentile(self.taken, 95)

    def times(self, other: Timing) -> float:
        """How many times the median of another subject, in the rounds that both took part in.

        A subject that is measured seldom is measured beside slow ones, which leave the machine's
        caches cold for it: what it is compared with must have had the same.
        """
        shared = set(self.rounds) & set(other.rounds)
        if not shared:
            return self.median / other.median
        mine, others = (
            median(
                seconds
                for seconds, number in zip(timing.taken, timing.rounds, strict=True)
                if number in shared
            )
            for timing in (self, other)
        )
        return mine / others

    def figures(self, floor: Timing | None = None) -> dict[str, Any]:
        """For the results: milliseconds, rounds, and how many times the floor."""
        figures: dict[str, Any] = {
            "median_ms": round(self.median * 1000, 4),
            "p95_ms": round(self.p95 * 1000, 4),
            "rounds": len(self.taken),
        }
        if floor is not None:
            figures["ratio"] = round(self.times(floor), 2)
        return figures


def interleaved(
    subjects: Mapping[str, Callable[[], float]],
    effort: Effort,
    *,
    floor: str = "floor",
    seed: int = _SEED,
) -> dict[str, Timing]:
    """Measure all subjects in rounds, each round in another order.

    A subject returns the seconds that count: what it prepares for itself is its own affair. The
    one called `floor` takes part in every round, and needs none of its own.
    """
    order = list(subjects)
    shuffle = random.Random(seed).shuffle  # noqa: S311 - an order is no secret
    taken: dict[str, list[float]] = {name: [] for name in order}
    rounds: dict[str, list[int]] = {name: [] for name in order}
    for name in order:
        for _ in range(effort.untimed):
            if subjects[name]() > effort.patience:
                break
    for number in count():
        waiting = [name for name in order if not effort.is_enough(taken[name])]
        if not [name for name in waiting if name != floor or len(order) == 1]:
            break
        if floor in subjects and floor not in waiting:
            waiting.append(floor)
        shuffle(waiting)
        for name in waiting:
            taken[name].append(subjects[name]())
            rounds[name].append(number)
    return {name: Timing(tuple(taken[name]), tuple(rounds[name])) for name in order}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of 100 values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = perf_counter()
    work()
    return perf_counter() - began
