"""Instants and periods as a person reads them; in English, whatever the system's locale is."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from fiml.sessions.periods import Grain

__all__ = ["PERIOD_NAMES", "instant", "period", "short_period", "window"]

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PERIOD_NAMES: Final = {
    Grain.HOUR: "Hour",
    Grain.DAY: "Day",
    Grain.WEEK: "Week from",
    Grain.MONTH: "Month",
}


def short_period(start: datetime, grain: Grain, *, is_of_days: bool = False) -> str:
    """A period on an axis; an hour with its date where there are hours of several days."""
    match grain:
        case Grain.HOUR if is_of_days:
            return f"{start.day} {_MONTHS[start.month - 1][:3]} {start:%H:%M}"
        case Grain.HOUR:
            return f"{start:%H:%M}"
        case Grain.MONTH:
            return f"{_MONTHS[start.month - 1][:3]} {start.year}"
        case _:
            return f"{start.day} {_MONTHS[start.month - 1][:3]}"


def period(start: datetime, grain: Grain) -> str:
    """A period in a table."""
    match grain:
        case Grain.HOUR:
            return f"{_date(start)}, {start:%H:%M}"
        case Grain.MONTH:
            return f"{_MONTHS[start.month - 1]} {start.year}"
        case _:
            return _date(start)


def instant(moment: datetime, zone: ZoneInfo) -> str:
    """A time of day, to the second, with the zone's name there and then."""
    local = moment.astimezone(zone)
    return f"{local:%H:%M:%S} {local:%Z}"


def window(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    """A window, to the minute."""
    begin, end = since.astimezone(zone), until.astimezone(zone)
    return f"{_minute(begin)} to {_minute(end)}"


def _date(moment: datetime) -> str:
    return (
        f"{_DAYS[moment.weekday()][:3]} {moment.day} {_MONTHS[moment.month - 1][:3]} {moment.year}"
    )


def _minute(moment: datetime) -> str:
    return f"{moment.day} {_MONTHS[moment.month - 1][:3]} {moment.year}, {moment:%H:%M}"
