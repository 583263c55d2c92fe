"""The command that lets another program at the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from fiml.cli._connection import connected_settings
from fiml.cli._group import Failure

__all__ = ["run"]

_ENDED_BY_A_SIGNAL = 128


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument(
    "program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]..."
)
def run(program: tuple[str, ...]) -> None:
    """Run a program with the database in its environment.

    For example `session-analytics run psql` or `session-analytics run python -m asyncio`. The
    program finds DATABASE_URL, and libpq's own variables; where that is the demo's local database,
    its server runs for as long as the program does. The exit code is the program's.
    """
    with connected_settings() as settings:
        environment = {
            **settings.libpq_environment(),
            **settings.login_environment(),
            # The Python that knows this package is found first.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        # Ctrl-C is the program's, which a terminal sends it as well. A handler and not SIG_IGN,
        # which the program would inherit; and before it starts, so that no moment is between.
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
        try:
            code = subprocess.call(program, env=environment)
        except OSError as error:
            raise Failure(f"cannot run {program[0]}: {error.strerror}") from None
        finally:
            signal.signal(signal.SIGINT, before)
    click.get_current_context().exit(code if code >= 0 else _ENDED_BY_A_SIGNAL - code)
