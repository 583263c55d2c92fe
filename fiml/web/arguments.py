"""Query parameters as the library's arguments, each as strict as the library is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fiml.errors import InvalidArgumentError
from fiml.sessions._arguments import shown

__all__ = ["SERIES_PARAMETERS", "STATS_PARAMETERS", "arguments_of", "in_parameters", "told"]

STATS_PARAMETERS: Final = ("user", "type", "days", "hours", "since", "until", "meta")
SERIES_PARAMETERS: Final = (*STATS_PARAMETERS[:-1], "grain", "timezone", "fill", "meta")

_ARGUMENTS: Final = {"user": "user_id", "type": "session_type", "meta": "include_meta"}
_PARAMETERS: Final = {argument: parameter for parameter, argument in _ARGUMENTS.items()}
_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLAGS: Final = {"true": True, "false": False}
_LONGEST_MESSAGE: Final = 500


def in_parameters(pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """The parameters of a query, each at most once.

    Raises:
        InvalidArgumentError: there is an unknown one, or one of them twice.
    """
    given: dict[str, str] = {}
    names = list(known)
    for name, value in pairs:
        if name not in names:
            raise InvalidArgumentError(
                f"Unknown parameter {shown(name)}; the parameters are {', '.join(names)}"
            )
        if name in given:
            raise InvalidArgumentError(f"{name} is there twice; expected it once")
        given[name] = value
    return given


def arguments_of(given: Mapping[str, str]) -> dict[str, Any]:
    """The library's arguments; what is no number or no truth value goes on as the text it is.

    There it is refused, in the words of the library.
    """
    return {_ARGUMENTS.get(name, name): _value(name, text) for name, text in given.items()}


def told(error: InvalidArgumentError) -> str:
    """What the library says, with the parameter's name in the place of the argument's."""
    name, separator, rest = str(error).partition(" ")
    message = f"{_PARAMETERS.get(name, name)}{separator}{rest}"
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    return message


def _value(name: str, text: str) -> str | int | bool:
    if name in {"days", "hours"} and _WHOLE.fullmatch(text):
        return int(text)
    if name in {"fill", "meta"}:
        return _FLAGS.get(text, text)
    return text
