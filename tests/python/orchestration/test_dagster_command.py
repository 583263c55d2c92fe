"""Dagster's services on this machine: how they are started, and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from warehouse.application import Connection, leave_expired_sessions, wait_until

from fiml.cli._dagster import dagster_command, dagster_environment
from fiml.settings import Settings

pytestmark = pytest.mark.usefixtures("hang_ups_are_heard")

WITHOUT_FOLDING = """
import sys
from fiml.cli._dagster import run
from fiml.settings import Settings
sys.exit(run(Settings.from_environment(), on_line=print, fold=False))
"""


def test_the_web_interface_listens_on_this_machine_only() -> None:
    command = dagster_command()
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_the_connection_is_in_the_environment_and_not_on_the_command_line() -> None:
    settings = Settings(conninfo="host=db password=secret", schedule="* * * * *")
    env = dagster_environment(settings, {"PATH": "/bin"})
    assert env["DATABASE_URL"] == "host=db password=secret"
    assert env["SESSION_ANALYTICS_SCHEDULE"] == "* * * * *"
    assert env["DAGSTER_HOME"] == str(settings.project_dir / ".session-analytics" / "dagster")
    assert "secret" not in " ".join(dagster_command())


def test_a_dagster_home_that_is_set_is_kept() -> None:
    assert dagster_environment(Settings(), {"DAGSTER_HOME": "/srv/dagster"})["DAGSTER_HOME"] == (
        "/srv/dagster"
    )


def test_a_project_that_is_named_from_the_current_folder_is_found_from_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    env = dagster_environment(Settings(project_dir=Path("project")), {})
    project = tmp_path.resolve() / "project"
    assert env["SESSION_ANALYTICS_PROJECT_DIR"] == str(project)
    assert env["DAGSTER_HOME"] == str(project / ".session-analytics" / "dagster")


def test_the_settings_come_back_from_the_environment_as_they_went_in() -> None:
    settings = Settings(
        conninfo="host=db",
        source_schema="application",
        archive_batch_size=17,
        archive_connections=3,
        schedule="*/5 * * * *",
        reconcile_schedule="1 2 * * *",
        reports_schedule="3 4 * * *",
        alerts_file=Path("/etc/session-analytics/alerts.yml"),
    )
    assert Settings.from_environment(dagster_environment(settings, {})) == settings


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Dagster's services, begun to start, as a process: `start("nohup", *options)`."""
    processes: list[subprocess.Popen[str]] = []
    groups: list[int] = []

    def popen(*before: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", WITHOUT_FOLDING],
            env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "Launching Dagster services" in line:
                groups.extend(_children(process.pid))
                return process
        pytest.fail("Dagster did not start")

    yield popen
    for process in processes:
        with process:
            process.kill()
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.usefixtures("database")
def test_when_the_terminal_is_closed_nothing_is_left(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start()
    # As the kernel and the shell say it.
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    # It returns when nobody holds standard output any more.
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what is ignored")
@pytest.mark.usefixtures("database")
def test_with_nohup_it_outlives_the_terminal(start: Callable[..., subprocess.Popen[str]]) -> None:
    status = Path(f"/proc/{start('nohup').pid}/status").read_text()
    (ignored,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    assert int(ignored, 16) & 1 << signal.SIGHUP - 1


@pytest.mark.long
def test_the_daemon_archives_and_builds_on_schedule_and_leaves_nothing_behind(
    database: Connection, tmp_path: Path
) -> None:
    leave_expired_sessions(database, 4)
    script = (
        "import sys\n"
        "from fiml.cli._dagster import run\n"
        "from fiml.settings import Settings\n"
        "sys.exit(run(Settings.from_environment()))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "DAGSTER_HOME": str(tmp_path),
            "SESSION_ANALYTICS_SCHEDULE": "* * * * *",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(
            database, "(select sum(sessions) from marts.daily_session_stats) = 4", seconds=200
        )
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert _processes_naming(tmp_path) == []


def _processes_naming(folder: Path) -> list[str]:
    # Every server and run of Dagster's is told where its instance is.
    return [line for line in _processes("args=") if json.dumps(str(folder)) in line]


def _children(parent: int) -> list[int]:
    found = (map(int, line.split()) for line in _processes("pid=,ppid="))
    return [child for child, of in found if of == parent]


def _processes(columns: str) -> list[str]:
    return subprocess.run(
        ["ps", "-A", "-o", columns],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
