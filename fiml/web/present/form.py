"""The filters above a view, and how to change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fiml.sessions.session_types import SessionType
from fiml.web.filters import Filters
from fiml.web.gate import Caller

__all__ = ["FilterForm", "Link", "present_filters"]

_WINDOWS: Final = (
    ("24 hours", {"hours": 24}),
    ("7 days", {"days": 7}),
    ("30 days", {"days": 30}),
    ("90 days", {"days": 90}),
    ("12 months", {"days": 365}),
)


@dataclass(frozen=True, slots=True)
class Link:
    """Another view.

    Attributes:
        label: what it is called.
        address: where it is.
        is_current: whether it is this one.
    """

    label: str
    address: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class FilterForm:
    """What the view is about, and how to change that.

    Attributes:
        given: the parameters of the address.
        types: the session types.
        windows: usual windows.
        is_custom: whether the window is none of these.
        clear: the address without filters; None where there are none.
        may_see_users: whether the caller may ask for others.
        whose: whose figures these are.
        zone: the time zone's name.
    """

    given: dict[str, str]
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
        types=[known.value for known in SessionType],
        windows=windows,
        is_custom=not any(link.is_current for link in windows),
        clear=filters.address(user=None, type=None) if has_filters else None,
        may_see_users=caller.may_see_users,
        whose=whose,
        zone=filters.subject.zone.key,
    )


def _is_window(given: dict[str, str], window: dict[str, int]) -> bool:
    named = {
        name: given[name]
        for name in ("days", "hours", "since", "until", "through")
        if name in given
    }
    return (named or {"days": "30"}) == {name: str(value) for name, value in window.items()}
