"""Checks of arguments before anything is sent: what PostgreSQL cannot hold never reaches it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast
from uuid import UUID

from fiml.errors import (
    InvalidArgumentError,
    InvalidDaysError,
    InvalidUserIdError,
)

__all__ = [
    "MAX_DAYS",
    "MAX_HOURS",
    "MAX_INTEGER",
    "MAX_KEEP_DAYS",
    "MAX_LIMIT",
    "MAX_NAME_LENGTH",
    "MAX_TYPE_LENGTH",
    "check_days",
    "check_flag",
    "check_hours",
    "check_json",
    "check_names",
    "check_session_id",
    "check_user_id",
    "check_whole_number",
    "json_text",
    "shown",
    "text_problem",
]

MAX_NAME_LENGTH: Final = 255
MAX_TYPE_LENGTH: Final = 50
MAX_INTEGER: Final = 2**31 - 1
MAX_DAYS: Final = 3650
MAX_KEEP_DAYS: Final = 36_500
MAX_HOURS: Final = 87_600
MAX_LIMIT: Final = 1000
# More than anyone means, and far from where Python's or PostgreSQL's parsers give up.
_MAX_DEPTH: Final = 100
_MAX_INTEGER_BITS: Final = 4096
_MAX_SHOWN: Final = 100


def shown(value: object) -> str:
    """A value as an error message repeats it: as Python writes it, cut where that is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an integer of thousands of digits, lists a thousand deep
        text = f"of type {type(value).__name__} and cannot be shown"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def text_problem(text: str, *, is_name: bool = True) -> str | None:
    """Say what keeps PostgreSQL, or the figures, from holding a text; None where nothing does.

    A name has 1 to 255 characters; other text may be empty or longer.
    """
    if is_name and not 1 <= len(text) <= MAX_NAME_LENGTH:
        return f"has {len(text)} characters"
    if "\0" in text:
        return "holds a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


def check_user_id(user_id: object) -> str:
    """Return the user id as it was given.

    Raises:
        InvalidUserIdError: it is no string of 1 to 255 characters that PostgreSQL can hold. The
            message does not repeat it.
    """
    problem = _name_problem(user_id)
    if problem is not None:
        raise InvalidUserIdError(f"user_id {problem}")
    return cast("str", user_id)


def check_session_id(session_id: object) -> UUID:
    """Return the id as a UUID.

    Raises:
        InvalidArgumentError: it is neither a UUID nor the text of one.
    """
    if isinstance(session_id, UUID):
        return session_id
    if isinstance(session_id, str):
        try:
            return UUID(session_id)
        except ValueError:
            pass
    raise InvalidArgumentError(f"session_id is {shown(session_id)}; expected a UUID or its text")


def check_days(days: object) -> int:
    """Return the length of a window in days of 24 hours.

    Raises:
        InvalidDaysError: it is no integer from 1 to 3650.
    """
    try:
        return check_whole_number(days, "days", MAX_DAYS)
    except InvalidArgumentError as error:
        raise InvalidDaysError(*error.args) from None


def check_hours(hours: object, name: str) -> float:
    """Return a number of hours.

    Raises:
        InvalidArgumentError: it is no finite number above 0 and up to ten years.
    """
    is_number = isinstance(hours, int | float) and not isinstance(hours, bool)
    if not is_number or not 0 < hours <= MAX_HOURS:  # type: ignore[operator]
        raise InvalidArgumentError(
            f"{name} is {shown(hours)}; expected hours, above 0 and up to {MAX_HOURS}"
        )
    return float(hours)  # type: ignore[arg-type]


def check_whole_number(value: object, name: str, maximum: int) -> int:
    """Return an integer from 1 to `maximum`.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise InvalidArgumentError(
            f"{name} is {shown(value)}; expected an integer from 1 to {maximum}"
        )
    return value


def check_flag(value: object, name: str) -> bool:
    """Return True or False.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} is {shown(value)}; expected true or false")
    return value


def check_names(names: object, what: str) -> list[str]:
    """Return names in their order, each once.

    Raises:
        InvalidArgumentError: `names` is no sequence (a bare string is none), or an element is no
            string of 1 to 255 characters that PostgreSQL can hold.
    """
    if not isinstance(names, Sequence) or isinstance(names, str | bytes | bytearray | memoryview):
        raise InvalidArgumentError(
            f"{what} is of type {type(names).__name__}; expected a list of strings"
        )
    for position, name in enumerate(names):
        problem = _name_problem(name)
        if problem is not None:
            raise InvalidArgumentError(f"{what}[{position}] {problem}")
    return list(dict.fromkeys(names))


def _name_problem(name: object) -> str | None:
    problem = text_problem(name) if isinstance(name, str) else f"is of type {type(name).__name__}"
    if problem is None:
        return None
    return f"{problem}; expected a string of 1 to {MAX_NAME_LENGTH} characters"


def json_text(value: object, what: str) -> str:
    """Return a value as JSON text that PostgreSQL can hold and that reads back as it was.

    Raises:
        InvalidArgumentError: as `check_json`.
    """
    check_json(value, what)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check_json(value: object, what: str) -> None:
    """Check that a value can be stored as JSON.

    Raises:
        InvalidArgumentError: the message names the place of a kind of value that JSON has not, NaN
            or infinity, an integer of more than 4096 bits, a NUL character, half of a surrogate
            pair, or nesting beyond 100 levels.
    """
    try:
        _check_json(value, "", 0)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{what}{error}") from None


def _check_json(value: Any, place: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        # Where that is nobody wants to read.
        raise InvalidArgumentError(f" is nested deeper than {_MAX_DEPTH} levels; expected no more")
    members: Iterable[tuple[object, Any]] = ()
    match value:
        case None | bool():
            pass
        case int() if value.bit_length() <= _MAX_INTEGER_BITS:
            pass
        case float() if math.isfinite(value):
            pass
        case int() | float():
            raise InvalidArgumentError(
                f"{place} is {shown(value)}; expected a number that JSON can carry safely"
            )
        case str():
            _check_characters(value, place)
        case list():
            members = enumerate(value)
        case dict():
            members = value.items()
            for key in value:
                if not isinstance(key, str):
                    raise InvalidArgumentError(
                        f"{place} has the key {shown(key)}; expected keys of text"
                    )
                _check_characters(key, f"{place} has a key that")
        case _:
            raise InvalidArgumentError(
                f"{place} is of type {type(value).__name__}; expected what JSON can hold: text, "
                "numbers, true, false, null, lists, and objects with text keys"
            )
    for key, member in members:
        inner = f"{place}[{shown(key)}]"
        _check_json(
            member, inner if len(inner) <= _MAX_SHOWN else f"[...][{shown(key)}]", depth + 1
        )


def _check_characters(text: str, place: str) -> None:
    problem = text_problem(text, is_name=False)
    if problem is not None:
        raise InvalidArgumentError(f"{place} {problem}; expected text without it")
