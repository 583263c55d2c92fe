"""Dagster's jobs, each step with the login that is named for it, and with no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alerts.world import File
from roles.installation import Installation
from warehouse.application import leave_expired_sessions, one, record_metrics

from fiml.settings import Settings
from orchestration.definitions import make_definitions
from orchestration.schedules import ARCHIVE_AND_BUILD, RECONCILE_ALL_DAYS


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(
        str(tmp_path), overrides={"telemetry": {"enabled": False}}
    ) as local:
        yield local


def checked(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        check.check_name: {name: value.value for name, value in check.metadata.items()}
        for check in result.get_asset_check_evaluations()
    }


def test_jobs_archive_build_compare_and_evaluate_with_logins_of_their_own(
    installation: Installation,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in installation.environment().items():
        monkeypatch.setenv(name, value)
    file = File(tmp_path / "alerts.yml")
    monkeypatch.setenv("SESSION_ANALYTICS_ALERTS_FILE", str(file.path))
    file.rule(figure="archived_sessions", threshold=1_000)
    with installation.connected() as connection:
        record_metrics(connection, 10)
        leave_expired_sessions(connection, 2)
    definitions = make_definitions(Settings.from_environment())
    for job in (ARCHIVE_AND_BUILD, RECONCILE_ALL_DAYS):
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, raise_on_error=False
        )
        assert result.success, job
        checks = checked(result)
        assert checks
        if job == ARCHIVE_AND_BUILD:
            assert (checks["alert_rules"]["rules"], checks["alert_rules"]["unknown"]) == (1, "none")
    with installation.connected() as connection:
        assert one(connection, "select sum(sessions) from marts.daily_session_stats") == 12
