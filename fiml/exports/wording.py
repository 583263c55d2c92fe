"""How people write what a report speaks of; the same in every form, on every machine."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

from fiml.exports.report import Change, Figure, Report, Unit
from fiml.sessions.periods import Grain

__all__ = [
    "change_of",
    "moment_of",
    "percent",
    "period_of",
    "said",
    "short",
    "span",
    "subject_of",
]

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MIDNIGHT = time()
_DAY = timedelta(days=1)


def said(value: float | None, unit: Unit) -> str:
    """A figure, with its unit."""
    if value is None:
        return "\N{EN DASH}"
    match unit:
        case Unit.COUNT:
            return f"{value:,}"
        case Unit.AVERAGE:
            return f"{value:,.2f}"
        case Unit.SECONDS:
            return span(value)
        case Unit.SHARE:
            return percent(value)


def percent(share: float) -> str:
    """A share of 1 as a percentage to one place, half up."""
    of_hundred = Decimal(str(share)) * 100
    return f"{of_hundred.quantize(Decimal('0.1'), rounding=ROUND_HALF_UP)} %"


def change_of(change: Change | None, figure: Figure) -> str:
    """By how much a figure changed, with its sign; nothing where there is nothing to compare."""
    if change is None or change.percent is None:
        return ""
    sign = "+" if change.percent > 0 else "\N{MINUS SIGN}" if change.percent < 0 else "±"
    unit = "points" if figure.unit is Unit.SHARE else "%"
    return f"{sign}{abs(change.percent):,} {unit}"


def span(seconds: float) -> str:
    """A length of time, in two units at most."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    if minutes:
        return f"{minutes} min {int(seconds) % 60:02} s"
    return f"{seconds:.2f} s"


def short_span(seconds: float) -> str:
    """A round length of time, as an axis has it."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def subject_of(report: Report) -> tuple[str, str]:
    """Whose sessions, and of which type."""
    user, kind = report.figures["user_id"], report.figures["session_type"]
    return "Everybody" if user is None else user, "all types" if kind is None else kind


def period_of(report: Report) -> str:
    """The window: whole days by their dates, any other one to the minute."""
    since, until = report.since, report.until
    if since < until and since.time() == until.time() == _MIDNIGHT:
        return _dates(since.date(), until.date() - _DAY)
    return f"{moment_of(since)} to {moment_of(until)}"


def moment_of(moment: datetime) -> str:
    """An instant, to the minute, in its own time zone."""
    return f"{_date(moment.date())}, {moment:%H:%M}"


def short(start: datetime, grain: Grain, *, with_year: bool = False) -> str:
    """What a period of a time series is called, by its beginning."""
    month = _MONTHS[start.month - 1][:3]
    year = f" {start.year}" if with_year or grain is Grain.MONTH else ""
    match grain:
        case Grain.HOUR if start.time() == _MIDNIGHT and not with_year:
            return f"{start.day} {month}"
        case Grain.HOUR:
            return f"{start.day} {month}{year}, {start:%H:%M}" if with_year else f"{start:%H:%M}"
        case Grain.MONTH:
            return f"{month}{year}"
        case _:
            weekday = f"{_WEEKDAYS[start.weekday()]} " if with_year else ""
            return f"{weekday}{start.day} {month}{year}"


def _dates(first: date, last: date) -> str:
    if first == last:
        return _date(first)
    if first.year != last.year:
        return f"{_date(first)} to {_date(last)}"
    if first.month != last.month:
        return f"{first.day} {_MONTHS[first.month - 1]} to {_date(last)}"
    return f"{first.day} to {_date(last)}"


def _date(day: date) -> str:
    # Not strftime: the names of months would change with the machine.
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
