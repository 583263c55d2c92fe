"""Commands as processes of their own: signals, pipes, and the local server."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from cli.conftest import COMMAND
from click.testing import Result

from fiml.demo._database import new_demo_database
from fiml.demo._logins import make_logins
from fiml.local_server import local_server
from fiml.sessions.migrations import _LOCK_KEY, migrate

Run = Callable[..., Result]
Start = Callable[..., subprocess.Popen[bytes]]
Connection = psycopg.Connection[tuple[Any, ...]]

SERVE = ("mcp", "--http", "--insecure-local", "--port", "0")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 30
    while not condition():
        assert monotonic() < deadline


def test_a_failure_is_a_sentence_and_exit_code_1(start: Start) -> None:
    process = start("stats", conninfo="postgresql://127.0.0.1:1/nothing")
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (1, b"")
    assert stderr.startswith(b"Error: cannot connect: ")
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("command", [["archive"], ["migrate"]])
def test_ctrl_c_ends_a_command_quietly_with_130_and_frees_its_locks(
    start: Start, migrated_database: str, source: Connection, command: list[str]
) -> None:
    # Both wait for this: one for the table, the other for the migrations' lock.
    source.execute(
        "insert into sessions (id, type, expires_at) values (gen_random_uuid(), 'equity', now())"
    )
    source.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
    with source.transaction():
        source.execute("lock table sessions in access exclusive mode")
        process = start(*command, conninfo=migrated_database)
        with psycopg.connect(migrated_database, autocommit=True) as observer:

            def is_waiting() -> bool:
                row = observer.execute(
                    "select exists (select from pg_stat_activity "
                    "where datname = current_database() and wait_event_type = 'Lock')"
                ).fetchone()
                return row == (True,)

            wait_until(is_waiting)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=30)
            assert process.returncode == 130
            assert stdout == b""
            assert b"Traceback" not in stderr
            assert b"Error" not in stderr
            wait_until(lambda: not is_waiting())


def test_a_reader_that_goes_away_is_no_error(
    start: Start, migrated_database: str, source: Connection
) -> None:
    source.execute(
        """
        insert into session_metrics (session_id, session_type, created_at, duration_seconds)
        select gen_random_uuid(), 'equity', now() - interval '1 hour', 1
        from generate_series(1, 5000)
        """
    )
    for arguments in (["export", "--format", "csv"], ["stats"], ["stats", "--json"], ["settings"]):
        reading_end, writing_end = os.pipe()
        os.close(reading_end)
        process = start(*arguments, conninfo=migrated_database, stdout=writing_end)
        os.close(writing_end)
        _, stderr = process.communicate(timeout=30)
        assert stderr == b""
        assert process.returncode == 1


@pytest.mark.parametrize(
    ("command", "closed", "exit_code", "stdout", "stderr"),
    [
        (["stats"], ">&-", 0, "", ""),
        (["settings"], ">&-", 0, "", ""),
        (["export", "--format", "csv"], ">&-", 0, "", ""),
        (["archive"], ">&-", 0, "", "Archiving ...\n"),
        (["archive"], "2>&-", 0, "0 sessions archived.\n", ""),
        (["stats"], "<&- >&- 2>&-", 0, "", ""),
        (["erase-user", "--yes"], "<&-", 2, "", "Erasing ...\nError: user_id has 0 characters"),
    ],
)
def test_a_standard_stream_that_is_closed_is_no_error(
    migrated_database: str,
    command: list[str],
    closed: str,
    exit_code: int,
    stdout: str,
    stderr: str,
) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', COMMAND, *command],
        env={**os.environ, "DATABASE_URL": migrated_database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (exit_code, stdout)
    assert ended.stderr.startswith(stderr)
    assert bool(ended.stderr) == bool(stderr)


FOLDERS = (
    "select count(*) from pg_stat_activity "
    "where datname = current_database() and application_name = 'session-analytics-fold'"
)


def test_what_serves_folds_until_it_ends_however_it_ends(
    start: Start, migrated_database: str, source: Connection
) -> None:
    for how in (signal.SIGINT, signal.SIGKILL):
        process = start(*SERVE, conninfo=migrated_database)
        wait_until(lambda: source.execute(FOLDERS).fetchone() == (1,))
        source.execute(
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
            "values (gen_random_uuid(), 'equity', now() - interval '1 hour', 1)"
        )
        wait_until(
            lambda: (
                source.execute(
                    "select (select sum(sessions) from marts.daily_session_stats) "
                    "= (select count(*) from session_metrics)"
                ).fetchone()
                == (True,)
            )
        )
        process.send_signal(how)
        process.communicate(timeout=30)
        wait_until(lambda: source.execute(FOLDERS).fetchone() == (0,))


def test_what_serves_does_so_without_folding_when_asked_or_without_a_project(
    start: Start, migrated_database: str, tmp_path: Path
) -> None:
    for arguments, environment, told in (
        (["--no-fold"], {}, b""),
        ([], {"SESSION_ANALYTICS_PROJECT_DIR": str(tmp_path)}, b"Nothing folds: "),
    ):
        process = start(*SERVE, *arguments, conninfo=migrated_database, **environment)
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        while not lines[-1].startswith(b"Serving MCP on "):
            lines.append(process.stderr.readline())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if children.exists():
            assert children.read_text() == ""
        assert lines[0].startswith(told)
        assert len(lines) == 1 + bool(told)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.mark.usefixtures("elsewhere")
def test_without_a_database_and_a_demo_it_says_what_to_set_or_run(run: Run) -> None:
    for command in (["stats"], ["doctor"], ["migrate"], ["mcp"]):
        result = run(*command)
        assert result.exit_code == 1
        assert "set DATABASE_URL" in result.stderr
        assert "make demo" in result.stderr


@pytest.mark.usefixtures("elsewhere")
def test_without_a_database_the_demos_local_one_is_used_for_as_long_as_the_command(
    run: Run,
) -> None:
    with local_server(durable=False) as server:
        result = run("stats")
        assert result.exit_code == 1
        assert "the local server has no demo" in result.stderr
        with new_demo_database(server.conninfo()) as demo:
            migrate(demo)
            with psycopg.connect(demo, autocommit=True) as connection:
                make_logins(connection, server)
            # As a demo that was interrupted leaves it.
            result = run("stats")
            assert result.exit_code == 1
            assert "did not come to its end" in result.stderr
    result = run("stats", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["total_sessions"] == 0
    # It is stopped again.
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.conninfo())
