"""Programs that are run with the database in their environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from cli.conftest import COMMAND, NO_DATABASE
from click.testing import Result

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


def test_ctrl_c_is_the_program_s(migrated_database: str) -> None:
    waits = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    environment: dict[str, Any] = {
        name: value for name, value in os.environ.items() if name not in NO_DATABASE
    }
    with subprocess.Popen(
        [COMMAND, "run", sys.executable, "-c", waits],
        env={**environment, "DATABASE_URL": migrated_database},
        stdout=subprocess.PIPE,
        # A group of its own, as a shell gives to what it runs in the foreground.
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 7
