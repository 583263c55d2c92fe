"""Lengths of time: those that are too long for a schedule, and how they are told."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

__all__ = ["patience", "span"]

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


def patience(schedule: str) -> timedelta:
    """Three periods of a cron expression, at least an hour."""
    return max(_HOUR, 3 * _period(schedule))


def _period(schedule: str) -> timedelta:
    match schedule.split():
        case [minute, "*", "*", "*", "*"] if (step := _step(minute)) is not None:
            return timedelta(minutes=step)
        case [_, "*", "*", "*", "*"]:
            return _HOUR
        case [_, hour, "*", "*", "*"] if (step := _step(hour)) is not None:
            return timedelta(hours=step)
        case [_, _, "*", "*", "*"]:
            return _DAY
        case _:
            return 7 * _DAY


def _step(field: str) -> int | None:
    if field == "*":
        return 1
    found = re.fullmatch(r"\*/([0-9]{1,2})", field)
    return int(found[1]) if found else None


def span(age: timedelta) -> str:
    """A length of time in the largest unit of which it has two."""
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
