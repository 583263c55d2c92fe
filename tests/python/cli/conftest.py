"""Running commands, in this process and as processes of their own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from fiml.cli import main
from fiml.cli._connection import NAMES_A_DATABASE
from fiml.local_server import remove_local_servers

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
# What the machine or the test run sets must not choose the database of a command.
NO_DATABASE = dict.fromkeys((*NAMES_A_DATABASE, "NO_COLOR", "FORCE_COLOR"))


@pytest.fixture
def run() -> Callable[..., Result]:
    """`run("stats", "--json", conninfo=..., stdin=..., **environment)` in this process."""

    def invoke(
        *arguments: str, conninfo: str | None = None, stdin: str | None = None, **environment: str
    ) -> Result:
        given: dict[str, str | None] = {**NO_DATABASE, "COLUMNS": "100", **environment}
        if conninfo is not None:
            given["DATABASE_URL"] = conninfo
        return CliRunner().invoke(main, arguments, input=stdin, env=given)

    return invoke


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`start("stats", conninfo=..., stdout=..., **environment)` as a process of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def popen(
        *arguments: str,
        conninfo: str | None = None,
        stdout: int = subprocess.PIPE,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        given = {name: value for name, value in os.environ.items() if name not in NO_DATABASE}
        if conninfo is not None:
            given["DATABASE_URL"] = conninfo
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env={**given, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield popen
    for process in processes:
        with process:
            process.kill()


@pytest.fixture
def source(migrated_database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection to the migrated database, in autocommit."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the checkout, as far as local servers are concerned."""
    # pytest's own folders are closed to the user that the server of root runs under.
    folder = Path(tempfile.mkdtemp(prefix="session-analytics-tests-"))
    folder.chmod(0o711)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fiml.local_server._PACKAGES", folder)
    yield folder
    remove_local_servers()
    shutil.rmtree(folder)
