"""The way to another view."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Link"]


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
