"""Keys of calls: two calls share one exactly when they ask the same question."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import BoundArguments
from types import NoneType
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

__all__ = ["key_of_call"]

# Types whose repr tells any two values apart that are not the same.
_PLAIN: Final = (
    bool,
    bytes,
    complex,
    date,
    datetime,
    Decimal,
    float,
    int,
    NoneType,
    str,
    time,
    timedelta,
    UUID,
)


def key_of_call(call: BoundArguments) -> Hashable:
    """The key of a call, from the values of its arguments.

    A value stands there with its type, so that 1, 1.0, True and "1" differ. Containers, dataclasses
    and pydantic models stand for what they hold; any other object must be hashable and stands for
    what its own `==` says, which is itself by default. The key keeps such an object alive: its
    address is not used again for another one.

    Raises:
        TypeError: an argument can change and does not tell what it holds.
    """
    return tuple((name, _key(value)) for name, value in call.arguments.items())


def _key(value: Any) -> Hashable:
    kind = type(value)
    if kind in _PLAIN:
        return kind, repr(value)
    if isinstance(value, Enum):
        return kind, value.name, _key(value.value)
    if isinstance(value, list | tuple):
        return kind, tuple(map(_key, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(_key, value))
    if isinstance(value, Mapping):
        # In their order: the answer may follow it.
        return kind, tuple((_key(name), _key(member)) for name, member in value.items())
    if isinstance(value, BaseModel):
        return kind, _key(dict(value)), _key(value.__pydantic_private__)
    if is_dataclass(value) and not isinstance(value, type):
        return kind, tuple(_key(getattr(value, field.name)) for field in fields(value))
    if _is_hashable(value):
        return kind, value
    raise TypeError(
        f"an argument of type {kind.__name__} cannot be part of a cache key: it is not hashable"
    )


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
