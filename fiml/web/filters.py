"""What a view of the page is about: the parameters of its address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fiml.errors import InvalidArgumentError
from fiml.sessions._arguments import check_user_id, shown
from fiml.sessions._time_arguments import check_grain, check_timezone, check_window
from fiml.sessions.periods import Grain, Window
from fiml.sessions.session_types import check_session_type
from fiml.web.arguments import arguments_of, in_parameters
from fiml.web.figures import FIGURES

__all__ = ["PARAMETERS", "Filters", "Subject", "suitable_grain"]

# Those of a time series, and two of the page's own: `through`, a date that is the last one inside,
# as people say it, in the place of `until`; and `figure`, which the main chart is of.
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


@dataclass(frozen=True, slots=True)
class Subject:
    """What is read for a view; views of the same are read once.

    Attributes:
        window: which one.
        days: its length, where it is one of days that ends now.
        grain: of the periods; None takes one that suits the window's length.
        has_names: whether the names of each period are read, for programs; the page shows none.
    """

    user_id: str | None
    session_type: str | None
    window: Window
    days: int | None
    zone: ZoneInfo
    grain: Grain | None
    has_names: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    """A view's address, read.

    Attributes:
        given: the parameters as they were given, without empty ones.
        subject: what is read; its user is the one that was asked for.
        figure: the key of the figure that the main chart is of.
    """

    given: dict[str, str]
    subject: Subject
    figure: str

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
        until = given.get("until")
        if "through" in given:
            if until is not None:
                raise InvalidArgumentError("until and through are both there; expected one of them")
            until = _day_after(given["through"])
        return cls(
            given=given,
            subject=Subject(
                user_id=None if user is None else check_user_id(user),
                session_type=None if kind is None else check_session_type(kind).value,
                window=check_window(days, arguments.get("hours"), given.get("since"), until, zone),
                days=None if given.keys() & (_WINDOW - {"days"}) else days,
                zone=zone,
                grain=check_grain(given["grain"]) if "grain" in given else None,
            ),
            figure=_figure(given.get("figure", FIGURES[0].key)),
        )

    def about(self, user_id: str | None) -> Subject:
        """What is read, once it is known whose figures the caller gets."""
        return replace(self.subject, user_id=user_id)

    def address(self, **changes: str | int | None) -> str:
        """The address of another view; None leaves a parameter out."""
        changed = {**self.given, **changes}
        return _query({name: changed.get(name) for name in PARAMETERS})

    def window_address(self, **window: str | int) -> str:
        """The address of the same view of another window."""
        return self.address(**{**dict.fromkeys(_WINDOW), **window})


def suitable_grain(since: datetime, until: datetime) -> Grain:
    """A grain that gives a chart of this window a few dozen points."""
    length = until - since
    return next((grain for longest, grain in _GRAINS if length <= longest), Grain.MONTH)


def _query(parameters: dict[str, str | int | None]) -> str:
    kept = {name: value for name, value in parameters.items() if value is not None}
    return "/?" + urlencode(kept, quote_via=quote, safe=":/") if kept else "/"


def _day_after(through: str) -> str:
    try:
        return (date.fromisoformat(through) + _DAY).isoformat()
    except (ValueError, OverflowError):
        raise InvalidArgumentError(
            f"through is {shown(through)}; expected a date, such as 2026-03-29"
        ) from None


def _figure(key: str) -> str:
    keys = [figure.key for figure in FIGURES]
    if key not in keys:
        raise InvalidArgumentError(f"figure is {shown(key)}; expected one of {', '.join(keys)}")
    return key
