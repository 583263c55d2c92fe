"""Checks of arguments that say which time is meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from fiml.errors import InvalidArgumentError
from fiml.sessions._arguments import MAX_HOURS, check_days, check_whole_number, shown
from fiml.sessions.periods import Grain, Window

__all__ = ["check_grain", "check_timezone", "check_window"]

_UTC: Final = ZoneInfo("UTC")
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999
_FORMS: Final = "2026-03-29, 2026-03-29T14:30 or 2026-03-29T14:30:00+02:00"


def check_grain(grain: object) -> Grain:
    """Return the grain.

    Raises:
        InvalidArgumentError: it is none of hour, day, week and month.
    """
    if isinstance(grain, str) and grain in set(Grain):
        return Grain(grain)
    raise InvalidArgumentError(f"grain is {shown(grain)}; expected one of {', '.join(Grain)}")


def check_timezone(name: object) -> ZoneInfo:
    """Return the time zone.

    Raises:
        InvalidArgumentError: it is not the name of a zone of the IANA time zone database.
    """
    if isinstance(name, str):
        try:
            return ZoneInfo(name)
        # A folder of zones, such as Europe, is no file, and more than a name may be no path.
        except (OSError, ValueError, LookupError):
            pass
    raise InvalidArgumentError(
        f"timezone is {shown(name)}; expected the name of a time zone, such as Europe/Athens or UTC"
    )


def check_window(
    days: object,
    hours: object = None,
    since: object = None,
    until: object = None,
    zone: ZoneInfo = _UTC,
) -> Window:
    """Return the window: `hours` or `since` take the place of `days`.

    Args:
        days: its length in days of 24 hours, 1 to 3650.
        hours: its length, 1 to 87600.
        since: when it begins; a datetime with a time zone, or ISO 8601 text, which without an
            offset is local to `zone`.
        until: when it ends; None is now.
        zone: where text without an offset is local.

    Raises:
        InvalidDaysError: `days` is not an integer from 1 to 3650.
        InvalidArgumentError: `hours` is not an integer from 1 to 87600, there are `hours` and
            `since`, an instant is none, or `since` is not before `until`.
    """
    length = timedelta(days=check_days(days))
    if hours is not None:
        length = timedelta(hours=check_whole_number(hours, "hours", MAX_HOURS))
        if since is not None:
            raise InvalidArgumentError("hours and since are both there; expected one of them")
    begin = None if since is None else _check_instant(since, "since", zone)
    end = None if until is None else _check_instant(until, "until", zone)
    if begin is not None and end is not None and begin >= end:
        raise InvalidArgumentError(
            f"since is {begin.isoformat()} and until is {end.isoformat()}; "
            "expected since to be before until"
        )
    return Window(None if begin is not None else length, begin, end)


def _check_instant(value: object, name: str, zone: ZoneInfo) -> datetime:
    moment = _parsed(value, zone) if isinstance(value, str) else value
    if (
        isinstance(moment, datetime)
        and moment.tzinfo is not None
        # Far from the ends of the calendar, where a window or a time zone would leave it.
        and _FIRST_YEAR <= moment.year <= _LAST_YEAR
    ):
        return moment.astimezone(UTC)
    raise InvalidArgumentError(
        f"{name} is {shown(value)}; expected a datetime with a time zone, or text such as "
        f"{_FORMS}, from {_FIRST_YEAR} to {_LAST_YEAR}"
    )


def _parsed(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
