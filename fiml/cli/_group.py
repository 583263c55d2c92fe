"""Every error of a command becomes a sentence or two on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

import click
import psycopg
from click.exceptions import Exit

from fiml.errors import InvalidArgumentError, SessionAnalyticsError

__all__ = ["CommandLine", "Failure", "WrongUsage"]

_INTERRUPTED: Final = 130
_EXTRAS: Final = {
    "dbt": "dbt",
    "dagster": "dagster",
    "dagster_dbt": "dagster",
    "jwt": "mcp",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "starlette": "mcp",
    "uvicorn": "mcp",
}


class Failure(click.ClickException):
    """A sentence for stderr."""

    exit_code = 1


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

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _never_fail_to_encode()
        try:
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
            raise _explained(error) from None
        return result


def _explained(error: Exception) -> Failure:
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


def _never_fail_to_encode() -> None:
    # A terminal that lacks a character of somebody's tag shows an escape in its place.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
