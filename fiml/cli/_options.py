"""What options take, refused in the words of the library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import click

from fiml.cli._group import WrongUsage
from fiml.sessions._arguments import shown

__all__ = ["whole_number"]


def whole_number(
    minimum: int, maximum: int
) -> Callable[[click.Context, click.Parameter, str], int]:
    """A callback that reads an integer in a range, both ends inside."""

    def read(_ctx: click.Context, parameter: click.Parameter, value: str) -> int:
        given: str | int = value
        with suppress(ValueError):
            given = int(value)
        if isinstance(given, int) and minimum <= given <= maximum:
            return given
        raise WrongUsage(
            f"{parameter.name} is {shown(given)}; expected an integer from {minimum} to {maximum}"
        )

    return read
