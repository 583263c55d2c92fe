"""What a view of the page is about: the parameters of its address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fiml.errors import InvalidArgumentError
from fiml.sessions._arguments import MAX_NAME_LENGTH, check_user_id, shown, text_problem
from fiml.sessions._time_arguments import check_grain, check_timezone, check_window
from fiml.sessions.periods import Grain, Window
from fiml.sessions.questions import Name, NameKind
from fiml.sessions.session_types import check_session_type
from fiml.web.arguments import arguments_of, in_parameters
from fiml.web.figures import FIGURES, Figure, figure_of_name

__all__ = ["PARAMETERS", "Filters", "Subject", "fitting_grains", "suitable_grain"]

# Those of a time series, and two of the page's own: `through`, a date that is the last one inside,
# as people say it, in the place of `until`; and `figure`, which the main chart is of: the key of a
# figure, or `asset:`, `tag:` or `query_type:` and a name, which may hold anything.
PARAMETERS: Final = (
    "user",
    "type",
    "days",
    "hours",
    "since",
    "until",
    "through",
    "timezone",
    "grain",
    "figure",
)
_WINDOW: Final = frozenset({"days", "hours", "since", "until", "through"})
_DEFAULT_DAYS: Final = 30
_DAY: Final = timedelta(days=1)
# The longest window of each; what is longer is in months.
_GRAINS: Final = (
    (2 * _DAY, Grain.HOUR),
    (95 * _DAY, Grain.DAY),
    (2 * 366 * _DAY, Grain.WEEK),
)
# The shortest of each.
_LENGTHS: Final = {
    Grain.HOUR: timedelta(hours=1),
    Grain.DAY: _DAY,
    Grain.WEEK: 7 * _DAY,
    Grain.MONTH: 28 * _DAY,
}
# More are no line any more, but a band.
_MOST_PERIODS: Final = 600
_FIGURES: Final = {figure.key: figure for figure in FIGURES}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is read for a view; views of the same are read once.

    Attributes:
        window: which one.
        days: its length, where it is one of days that ends now.
        grain: of the periods; None takes one that suits the window's length.
        has_names: whether the names of each period are read, for programs; the page shows none.
        name: what is counted in each period beside that; None for nothing.
    """

    user_id: str | None
    session_type: str | None
    window: Window
    days: int | None
    zone: ZoneInfo
    grain: Grain | None
    has_names: bool = False
    name: Name | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """A view's address, read.

    Attributes:
        given: the parameters as they were given, without empty ones.
        subject: what is read; its user is the one that was asked for.
        figure: what the main chart is of.
    """

    given: dict[str, str]
    subject: Subject
    figure: Figure

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], default_zone: str = "UTC") -> Filters:
        """Read the parameters of an address; a form sends empty ones, which are none.

        Raises:
            InvalidArgumentError: one of them is unknown, doubled or malformed.
        """
        given = {name: value for name, value in in_parameters(pairs, PARAMETERS).items() if value}
        arguments = arguments_of(given)
        zone = check_timezone(given.get("timezone", default_zone))
        user = arguments.get("user_id")
        kind = arguments.get("session_type")
        days = arguments.get("days", _DEFAULT_DAYS)
        figure, name = _figure(given.get("figure", FIGURES[0].key))
        until = given.get("until")
        if "through" in given:
            if until is not None:
                raise InvalidArgumentError("until and through are both there; expected one of them")
            until = _day_after(given["through"], given.get("since", ""))
        return cls(
            given=given,
            subject=Subject(
                user_id=None if user is None else check_user_id(user),
                session_type=None if kind is None else check_session_type(kind).value,
                window=check_window(days, arguments.get("hours"), given.get("since"), until, zone),
                days=None if given.keys() & (_WINDOW - {"days"}) else days,
                zone=zone,
                grain=check_grain(given["grain"]) if "grain" in given else None,
                name=name,
            ),
            figure=figure,
        )

    def about(self, user_id: str | None) -> Subject:
        """What is read, once it is known whose figures the caller gets."""
        return replace(self.subject, user_id=user_id)

    def address(self, **changes: str | int | None) -> str:
        """The address of another view; None leaves a parameter out."""
        changed = {**self.given, **changes}
        return _query({name: changed.get(name) for name in PARAMETERS})

    def window_address(self, **window: int) -> str:
        """The address of the same view of another window, of so many days or hours until now.

        Periods that do not fit it are left for those that do.
        """
        changes: dict[str, str | int | None] = {**dict.fromkeys(_WINDOW), **window}
        if self.subject.grain not in fitting_grains(timedelta(**window)):
            changes["grain"] = None
        return self.address(**changes)


def suitable_grain(length: timedelta) -> Grain:
    """A grain that gives a chart of so long a window a few dozen points."""
    return next((grain for longest, grain in _GRAINS if length <= longest), Grain.MONTH)


def fitting_grains(length: timedelta) -> list[Grain]:
    """The grains that divide so long a window into a line: two periods or more, and not too many.

    The one that suits it is always among them.
    """
    suitable = suitable_grain(length)
    return [
        grain
        for grain, period in _LENGTHS.items()
        if grain is suitable or 2 * period <= length <= _MOST_PERIODS * period
    ]


def _query(parameters: dict[str, str | int | None]) -> str:
    kept = {name: value for name, value in parameters.items() if value is not None}
    return "/?" + urlencode(kept, quote_via=quote, safe=":/") if kept else "/"


def _day_after(through: str, since: str) -> str:
    last = _date(through)
    if last is None or last == date.max:
        raise InvalidArgumentError(
            f"through is {shown(through)}; expected a date, such as 2026-03-29"
        )
    first = _date(since)
    # The form sends two dates; the library, which knows the day after, would name that.
    if first is not None and first > last:
        raise InvalidArgumentError(
            f"since is {first} and through is {last}; expected since to be no later"
        )
    return (last + _DAY).isoformat()


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _figure(key: str) -> tuple[Figure, Name | None]:
    if key in _FIGURES:
        return _FIGURES[key], None
    kind, separator, text = key.partition(":")
    if not separator or kind not in set(NameKind) or text_problem(text) is not None:
        raise InvalidArgumentError(
            f"figure is {shown(key)}; expected one of {', '.join(_FIGURES)}, or asset:, tag: or "
            f"query_type: and a name of 1 to {MAX_NAME_LENGTH} characters"
        )
    name = Name(NameKind(kind), text)
    return figure_of_name(name), name
