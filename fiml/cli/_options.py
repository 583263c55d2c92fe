"""What options take, refused in the words of the library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click

from fiml.cli._group import WrongUsage
from fiml.sessions._arguments import MAX_DAYS, MAX_HOURS, shown

__all__ = ["filter_options", "whole_number", "window_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def whole_number(
    minimum: int, maximum: int
) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """A callback that reads an integer in a range, both ends inside, where there is one."""

    def read(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        given: str | int = value
        with suppress(ValueError):
            given = int(value)
        if isinstance(given, int) and minimum <= given <= maximum:
            return given
        raise WrongUsage(
            f"{parameter.name} is {shown(given)}; expected an integer from {minimum} to {maximum}"
        )

    return read


def filter_options(command: Command) -> Command:
    """Whose sessions, and which: `user_id` and `session_type`."""
    for option in (
        click.option(
            "--type",
            "session_type",
            help="equity, crypto, portfolio, comparative or macro; default: all.",
        ),
        click.option("--user", "user_id", help="One user's id; default: everybody."),
    ):
        command = option(command)
    return command


def window_options(command: Command) -> Command:
    """Which window: `days`, `hours`, `since` and `until`."""
    for option in (
        click.option("--until", metavar="TIME", help="When the window ends; default: now."),
        click.option(
            "--since",
            metavar="TIME",
            help="When it begins, instead of --days: 2026-03-29, or with a time, and an offset.",
        ),
        click.option(
            "--hours",
            metavar="INTEGER",
            callback=whole_number(1, MAX_HOURS),
            help="Length of the window in hours, instead of --days.",
        ),
        click.option(
            "--days",
            metavar="INTEGER",
            callback=whole_number(1, MAX_DAYS),
            default="30",
            show_default=True,
            help=f"Length of the window, 1 to {MAX_DAYS}.",
        ),
    ):
        command = option(command)
    return command
