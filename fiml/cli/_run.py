"""The command that lets another program at the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

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
    its server runs for as long as the program does. The exit code is the program's, and so are
    signals.
    """
    with connected_settings() as settings:
        environment = {
            **settings.libpq_environment(),
            **settings.login_environment(),
            # The Python that knows this package is found first.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        try:
            code = _exit_code(program, environment)
        except OSError as error:
            raise Failure(f"cannot run {program[0]}: {error.strerror}") from None
    click.get_current_context().exit(code if code >= 0 else _ENDED_BY_A_SIGNAL - code)


def _exit_code(program: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a program to its end, which is its own affair: what asks this process to end is its."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the program as well.
        if number == signal.SIGINT:
            return
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    # A handler, which the program does not inherit, and no SIG_IGN, which it would, and does where
    # whoever started this one meant it (`nohup`). Before it starts, so that no moment is between.
    before = {
        number: signal.signal(number, pass_on)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        process = subprocess.Popen(program, env=environment)
        for number in early:
            process.send_signal(number)
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
