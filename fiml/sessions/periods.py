"""Windows of time, and the calendar periods that they divide into.

A window is resolved against the database's clock; periods follow the calendar of a time zone, so
that a day has 23, 24 or 25 hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from fiml.errors import InvalidArgumentError

__all__ = ["MAX_PERIODS", "Grain", "Period", "Window", "divide"]

# Ten years of days, five months of hours.
MAX_PERIODS: Final = 3_700
_LONGEST: Final = timedelta(days=3650)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)


class Grain(StrEnum):
    """How long a period is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, of a fixed length or since an instant, until an instant or now.

    Attributes:
        length: how long; None where `since` says it.
        since: UTC, inclusive.
        until: UTC, exclusive; None is now.
    """

    length: timedelta | None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def days(self) -> float | None:
        """The length in days of 24 hours, where that is said."""
        return None if self.length is None else self.length / _DAY

    def bounds(self, as_of: datetime) -> tuple[datetime, datetime]:
        """Where it begins and ends, in UTC: nothing is dated after `as_of`.

        Raises:
            InvalidArgumentError: it is longer than 3650 days.
        """
        end = as_of if self.until is None else min(self.until, as_of)
        begin = end - self.length if self.since is None and self.length is not None else self.since
        begin = end if begin is None else min(begin, end)
        if end - begin > _LONGEST:
            raise InvalidArgumentError(
                f"the window begins with since {(end - begin).days} days before it ends; "
                f"expected at most {_LONGEST.days}"
            )
        return begin.astimezone(UTC), end.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar period, or what of it lies in a window.

    Attributes:
        starts_at: UTC, inclusive.
        ends_at: UTC, exclusive.
        is_open: it goes on: its end is the present.
        is_partial: the calendar's period is longer than what lies in the window.
    """

    starts_at: datetime
    ends_at: datetime
    is_open: bool
    is_partial: bool


def divide(
    since: datetime, until: datetime, grain: Grain, zone: ZoneInfo, as_of: datetime
) -> list[Period]:
    """The periods that make up `[since, until)`, side by side, first and last cut where it is.

    Hours begin where a clock on the wall shows a full one, and where it is put forward or back;
    weeks on Monday (ISO 8601).

    Raises:
        InvalidArgumentError: there would be more than 3700.
    """
    periods: list[Period] = []
    starts = _hours(since, zone) if grain is Grain.HOUR else _dates(since, grain, zone)
    for starts_at, ends_at in pairwise(starts):
        if starts_at >= until or since >= until:
            break
        if len(periods) == MAX_PERIODS:
            raise InvalidArgumentError(
                f"grain is {grain}, of which the window has more than {MAX_PERIODS}; expected no "
                "more: a shorter window, or a longer grain"
            )
        # A date that a zone has left out has no length.
        if starts_at < ends_at:
            periods.append(
                Period(
                    max(starts_at, since),
                    min(ends_at, until),
                    is_open=until == as_of and ends_at >= until,
                    is_partial=starts_at < since or ends_at > until,
                )
            )
    return periods


def _dates(since: datetime, grain: Grain, zone: ZoneInfo) -> Iterator[datetime]:
    """Where the period around `since` begins, and all that follow it."""
    day = since.astimezone(zone).date()
    if grain is Grain.WEEK:
        day -= day.weekday() * _DAY
    elif grain is Grain.MONTH:
        day = day.replace(day=1)
    while True:
        yield _start_of(day, zone)
        if grain is Grain.MONTH:
            day = (day + 31 * _DAY).replace(day=1)
        else:
            day += 7 * _DAY if grain is Grain.WEEK else _DAY


def _start_of(day: date, zone: ZoneInfo) -> datetime:
    # Of two midnights the first; of one that was skipped, the moment at which it was.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _hours(since: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    start = since - _past_full_hour(since, zone)
    if _offset(start, zone) != _offset(since, zone):
        # At the latest it is `since` itself.
        start = _transition(start, since + _MICROSECOND, zone)
    while True:
        yield start
        end = start + _HOUR - _past_full_hour(start, zone)
        if _offset(end - _MICROSECOND, zone) != _offset(start, zone):
            end = _transition(start, end, zone)
        start = end


def _past_full_hour(moment: datetime, zone: ZoneInfo) -> timedelta:
    local = moment.astimezone(zone)
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _transition(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first moment of the offset that `after` has, at most an hour later; to the second."""
    offset = _offset(after - _MICROSECOND, zone)
    earliest, latest = 0, int((after - before) / _SECOND)
    while latest - earliest > 1:
        middle = (earliest + latest) // 2
        if _offset(before + middle * _SECOND, zone) == offset:
            latest = middle
        else:
            earliest = middle
    return before + latest * _SECOND
