"""Dagster's services on this machine: how they are started, and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warehouse.application import Connection, leave_expired_sessions, wait_until

from fiml.cli._dagster import dagster_command, dagster_environment
from fiml.settings import Settings


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
    found = subprocess.run(
        ["ps", "-A", "-o", "args="],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in found.stdout.splitlines() if json.dumps(str(folder)) in line]
