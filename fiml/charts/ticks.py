"""Where an axis that begins at zero is labelled: few round numbers, the last not below the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

__all__ = ["count_ticks", "duration_ticks", "number_ticks"]

_MOST_STEPS: Final = 4
# No figure is as small, and a float cannot be divided much further.
_NOTHING: Final = 1e-9
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_ROUND_SECONDS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(step * _MINUTE for step in (1, 2, 5, 10, 15, 30)),
    *(step * _HOUR for step in (1, 2, 3, 6, 12)),
)


def number_ticks(largest: float) -> list[float]:
    """For figures of any kind; `largest` is not negative."""
    return _up_to(largest, _round_steps(largest)) if largest > _NOTHING else [0.0, 1.0]


def count_ticks(largest: float) -> list[float]:
    """For whole things."""
    if largest <= _MOST_STEPS:
        return _up_to(max(largest, 1), [1.0])
    return _up_to(largest, [step for step in _round_steps(largest) if step.is_integer()])


def duration_ticks(largest: float) -> list[float]:
    """For seconds: round seconds, minutes, hours or days."""
    if largest <= 1:
        return number_ticks(largest)
    if largest > _ROUND_SECONDS[-1] * _MOST_STEPS:
        return [days * _DAY for days in count_ticks(largest / _DAY)]
    return _up_to(largest, _ROUND_SECONDS)


def _round_steps(largest: float) -> list[float]:
    magnitude = 10.0 ** math.floor(math.log10(largest / _MOST_STEPS))
    return [factor * magnitude for factor in _ROUND]


def _up_to(largest: float, steps: Sequence[float]) -> list[float]:
    # A hair less: 0.3 / 0.1 is more than 3.
    least = largest * (1 - 1e-9)
    step = next(step for step in steps if step * _MOST_STEPS >= least)
    # Rounded: three times 0.1 is not 0.3.
    return [float(f"{number * step:.12g}") for number in range(math.ceil(least / step) + 1)]
