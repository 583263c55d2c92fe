"""The command line, as a process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.scale import Scale

ROOT = Path(__file__).resolve().parents[3]
PROGRESS = re.compile(r" *\d+ s  ")
COMMAND = [sys.executable, "-m", "benchmarks"]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "1g"], "'1g' is no scale; expected 100k, 1m, 5m, 10m"),
        (["--scale", "100k,0"], "'0' is no scale"),
        (["--days", "0"], "'0' is no integer from 1 to 180"),
        (["--days", "1,x"], "'x' is no integer from 1 to 180"),
        (["--scopes", "everyone"], "'everyone' is none of platform, type, user, heaviest"),
        (["--sections", ""], "'' is none of reads, windows, disk"),
        (["--clients", "5000"], "'5000' is no integer from 1 to 1024"),
        (["--seconds", "0"], "0.0 is not in the range"),
        (["--database", "mysql://x"], "no PostgreSQL connection string"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_else(arguments: list[str], said: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = benchmarks("--database", "postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_page_needs_results(tmp_path: Path) -> None:
    done = benchmarks("--report-only", "--output", str(tmp_path))
    assert done.returncode == 1
    assert "there are no results" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("moment", "options"),
    [
        ("generate", ["--sections", "disk"]),
        pytest.param(
            "callers in 2 processes",
            ["--sections", "callers", "--load-seconds", "2"],
            # Seen to fail once beside other tests, for a reason that is not known yet.
            marks=pytest.mark.long,
        ),
        ("s live", ["--sections", "live", "--live-seconds", "4"]),
    ],
    ids=["generating", "with callers in two processes", "with traffic and folds"],
)
def test_an_interrupt_leaves_no_database_and_nothing_running(
    server: Any,
    tmp_path: Path,
    has_database: Callable[[str], bool],
    moment: str,
    options: list[str],
    number: int,
) -> None:
    # The name of the database is made of it, and workers run side by side.
    sessions = 2_000 + 10 * (os.getpid() % 1_000) + number % 10
    # As a shell starts what runs in the background, where SIGTERM is what ends it.
    started_with = (
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if number == signal.SIGTERM else []
    )
    process = subprocess.Popen(
        [
            *started_with,
            *COMMAND,
            *("--database", server.maintenance_conninfo, "--scale", str(sessions)),
            *("--clients", "2", "--output", str(tmp_path)),
            *options,
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        reached = any(moment in line for line in process.stderr)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert reached, said
    assert process.returncode == 130, said
    told = [line for line in said.splitlines() if line and not PROGRESS.match(line)]
    assert told == ["Interrupted; what was measured before is in the results."]
    assert not has_database(f"bench_{Scale(sessions)}")
    with psycopg.connect(server.maintenance_conninfo) as connection:
        left = connection.execute(
            "select count(*) from pg_stat_activity where datname = %s",
            [f"bench_{Scale(sessions)}"],
        ).fetchall()
    assert left == [(0,)]
