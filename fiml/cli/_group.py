"""Every error of a command becomes a sentence or two on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from click.exceptions import Exit

from fiml.cli._console import printable
from fiml.errors import InvalidArgumentError, SessionAnalyticsError

__all__ = ["CommandLine", "Failure", "WrongUsage"]

_INTERRUPTED: Final = 130
_EXTRAS: Final = {
    "dbt": "dbt",
    "dagster": "dagster",
    "dagster_dbt": "dagster",
    "httpx2": "alerts",
    "jinja2": "alerts",
    "jwt": "mcp",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "markupsafe": "web",
    "opentelemetry": "tracing",
    "prometheus_client": "metrics",
    "starlette": "mcp",
    "typst": "export",
    "uvicorn": "mcp",
    "websockets": "web",
    "xlsxwriter": "export",
    "yaml": "alerts",
}
# Where the page is served, these are parts of what its own extra brings.
_PARTS_OF_THE_PAGE: Final = ("alerts", "mcp")


class Failure(click.ClickException):
    """A sentence for stderr; what it repeats of a path or a server steers no terminal."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Take the sentence."""
        super().__init__(_plain(message))


class WrongUsage(Failure):
    """A sentence for stderr, about how the command was called."""

    exit_code = 2


class CommandLine(click.Group):
    """A group that lists its commands in the order they were added, and explains every error.

    Exit codes: 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order that a newcomer needs them."""
        return list(self.commands)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read what stands before the command's name."""
        with _told_plainly():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _have_standard_streams()
        _never_fail_to_encode_or_decode()
        try:
            with _told_plainly():
                result = super().invoke(ctx)
            # Here, where a reader that went away is no error yet.
            sys.stdout.flush()
        except (click.ClickException, Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise Exit(_INTERRUPTED) from None
        except click.Abort as abort:
            if isinstance(abort.__cause__ or abort.__context__, EOFError):
                raise Failure("a question had no answer, and nothing was done") from None
            raise Exit(_INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 - nobody should see a traceback unasked
            if ctx.params["debug"]:
                traceback.print_exc()
            raise _explained(error, ctx.invoked_subcommand) from None
        return result


def _plain(message: str) -> str:
    return "\n".join(map(printable, message.split("\n")))


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Let what click repeats of an argument steer no terminal either."""
    try:
        yield
    except click.UsageError as error:
        # A help text, which is shown in another way, repeats nothing.
        if type(error).show is not click.UsageError.show:
            raise
        raise click.UsageError(printable(error.format_message()), error.ctx) from None


def _explained(error: Exception, command: str | None) -> Failure:
    match error:
        case InvalidArgumentError():
            return WrongUsage(str(error))
        case SessionAnalyticsError():
            return Failure(str(error))
        case psycopg.Error():
            # The detail of some errors quotes a row.
            said = (error.diag.message_primary or str(error)).strip() or type(error).__name__
            hint = f". {error.diag.message_hint}" if error.diag.message_hint else ""
            return Failure(f"PostgreSQL: {said.splitlines()[0]}{hint}")
        case ModuleNotFoundError() if extra := _EXTRAS.get(str(error.name).partition(".")[0]):
            if command == "serve" and extra in _PARTS_OF_THE_PAGE:
                extra = "web"
            return Failure(
                f"this command needs {error.name}: pip install 'session-analytics[{extra}]'"
            )
        case OSError():
            return Failure(str(error))
        case _:
            return Failure(
                f"unexpected {type(error).__name__}: {error}. "
                "`session-analytics --debug ...` shows where it comes from."
            )


def _have_standard_streams() -> None:
    # One that was closed (`>&-`) says nothing and keeps nothing, and is no error. In the order of
    # their numbers, each of which a file or connection would get that is opened later.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as we run


def _never_fail_to_encode_or_decode() -> None:
    # A terminal that lacks a character of somebody's tag shows an escape in its place; input that
    # is no text is refused as what it is meant to be, as the same bytes among the arguments are.
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)
