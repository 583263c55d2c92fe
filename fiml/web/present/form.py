"""The filters above a view, and how to change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fiml.sessions.session_types import SessionType
from fiml.web.filters import Filters
from fiml.web.gate import Caller
from fiml.web.present.links import Link

__all__ = ["FilterForm", "present_filters"]

_WINDOWS: Final = (
    ("24 hours", {"hours": 24}),
    ("7 days", {"days": 7}),
    ("30 days", {"days": 30}),
    ("90 days", {"days": 90}),
    ("12 months", {"days": 365}),
)
_KEPT: Final = ("days", "hours", "since", "until", "through", "grain", "figure", "timezone")
_KEPT_BY_DATES: Final = ("user", "type", "figure", "timezone")


@dataclass(frozen=True, slots=True)
class FilterForm:
    """What the view is about, and how to change that.

    Attributes:
        given: the parameters of the address.
        kept, kept_by_dates: those that each of the forms sends on as they are.
        types: the session types.
        windows: usual windows.
        is_custom: whether the window is none of these.
        clear: the address without filters; None where there are none.
        may_see_users: whether the caller may ask for others.
        whose: whose figures these are.
        zone: the time zone's name.
    """

    given: dict[str, str]
    kept: dict[str, str]
    kept_by_dates: dict[str, str]
    types: list[str]
    windows: list[Link]
    is_custom: bool
    clear: str | None
    may_see_users: bool
    whose: str
    zone: str


def present_filters(filters: Filters, caller: Caller, user_id: str | None) -> FilterForm:
    """The form above a view, whether there is one or not."""
    given = filters.given
    windows = [
        Link(label, filters.window_address(**window), _is_window(given, window))
        for label, window in _WINDOWS
    ]
    own = caller.identity.subject if caller.identity is not None else None
    if user_id is None:
        whose = "Everybody"
    else:
        whose = "Your own sessions" if user_id == own else f"User {user_id}"
    has_filters = bool(given.keys() & {"user", "type"})
    return FilterForm(
        given=given,
        kept=_kept(given, _KEPT),
        kept_by_dates=_kept(given, _KEPT_BY_DATES),
        types=[known.value for known in SessionType],
        windows=windows,
        is_custom=not any(link.is_current for link in windows),
        clear=filters.address(user=None, type=None) if has_filters else None,
        may_see_users=caller.may_see_users,
        whose=whose,
        zone=filters.subject.zone.key,
    )


def _kept(given: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    kept = {name: given[name] for name in names if name in given}
    if {"\r", "\n"} & set(kept.get("figure", "")):
        # A form without a script writes each end of a line as two characters: another name.
        del kept["figure"]
    return kept


def _is_window(given: dict[str, str], window: dict[str, int]) -> bool:
    named = {
        name: given[name]
        for name in ("days", "hours", "since", "until", "through")
        if name in given
    }
    return (named or {"days": "30"}) == {name: str(value) for name, value in window.items()}
