"""Programs that are run with the database in their environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from cli.conftest import COMMAND, NO_DATABASE
from click.testing import Result

pytestmark = pytest.mark.usefixtures("hang_ups_are_heard")

ASK = "import os, psycopg; print(psycopg.connect({}).info.dbname)"


@pytest.mark.parametrize("conninfo", ["os.environ['DATABASE_URL']", "''"])
def test_a_program_finds_the_database_in_its_environment(
    start: Callable[..., subprocess.Popen[bytes]], migrated_database: str, conninfo: str
) -> None:
    process = start("run", "python", "-c", ASK.format(conninfo), conninfo=migrated_database)
    said, _ = process.communicate(timeout=60)
    name = psycopg.conninfo.conninfo_to_dict(migrated_database)["dbname"]
    assert said.decode().strip() == name
    assert process.returncode == 0


def test_the_exit_code_and_options_are_the_program_s(
    run: Callable[..., Result], migrated_database: str
) -> None:
    exits = "import sys; sys.exit(len(sys.argv))"
    result = run("run", "python", "-c", exits, "--help", "-x", conninfo=migrated_database)
    assert (result.exit_code, result.output) == (3, "")
    dies = "import os; os.kill(os.getpid(), 9)"
    assert run("run", "python", "-c", dies, conninfo=migrated_database).exit_code == 137


def test_a_program_that_is_not_there_is_one_sentence(
    run: Callable[..., Result], migrated_database: str
) -> None:
    result = run("run", "no-such-program", conninfo=migrated_database)
    assert result.exit_code == 1
    assert result.stderr == "Error: cannot run no-such-program: No such file or directory\n"


WAITS = """
import signal, sys, time
def end(number, frame):
    sys.exit(number + 5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if {is_handled} and signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, end)
print("ready", flush=True)
time.sleep(60)  # unless a signal ends it, as the test expects
"""


@contextmanager
def waiting(
    conninfo: str, *before: str, is_handled: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that waits for a signal, in a group of its own as a shell gives it one."""
    environment: dict[str, Any] = {
        name: value for name, value in os.environ.items() if name not in NO_DATABASE
    }
    with subprocess.Popen(
        [*before, COMMAND, "run", sys.executable, "-c", WAITS.format(is_handled=is_handled)],
        env={**environment, "DATABASE_URL": conninfo},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            # The program too, where it outlived the command.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_is_the_program_s(migrated_database: str) -> None:
    with waiting(migrated_database) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == signal.SIGINT + 5


@pytest.mark.parametrize("is_handled", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_ends_the_command_ends_the_program(
    migrated_database: str, number: signal.Signals, is_handled: bool
) -> None:
    with waiting(migrated_database, is_handled=is_handled) as process:
        process.send_signal(number)
        # It returns when the program, which has it too, is gone.
        process.communicate(timeout=60)
        assert process.returncode == number + (5 if is_handled else 128)


def test_what_is_ignored_stays_ignored(migrated_database: str) -> None:
    ignoring = ("/bin/sh", "-c", 'trap \'\' INT HUP; exec "$0" "$@"')
    with waiting(migrated_database, *ignoring) as process:
        for number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(process.pid, number)
        process.terminate()
        assert process.wait(timeout=60) == signal.SIGTERM + 5
