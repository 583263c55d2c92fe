"""What the commands print with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.text import Text

__all__ = [
    "counted",
    "err_console",
    "is_terminal",
    "json_document",
    "out_console",
    "printable",
    "reporting",
]


def out_console() -> Console:
    """The console of results: standard output."""
    return Console(highlight=False)


def err_console() -> Console:
    """The console of everything that is no result: standard error."""
    return Console(stderr=True, highlight=False)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is at the other end."""
    return stream.isatty()


def counted(number: int, thing: str) -> str:
    """So many of a thing, whose plural ends in s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def printable(text: str) -> str:
    """`text` with what could steer a terminal replaced: names come from users."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def json_document(value: object) -> str:
    """A value as JSON that says the same and shows as it is: what steers a terminal is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
        for character in text
    )


@contextmanager
def reporting(title: str, *, at_most_every: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Show on stderr that something goes on, and what.

    On a terminal a spinner with the latest note; elsewhere a line for each note, but for those that
    follow another one within `at_most_every` seconds.
    """
    console = err_console()
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(Text(title)) as status:
            yield lambda note: status.update(Text(f"{title}: {printable(note)}"))
        return
    print(f"{title} ...", file=sys.stderr, flush=True)  # noqa: T201
    latest = monotonic()

    def report(note: str) -> None:
        nonlocal latest
        if monotonic() - latest >= at_most_every:
            latest = monotonic()
            print(f"  {printable(note)}", file=sys.stderr, flush=True)  # noqa: T201

    yield report
