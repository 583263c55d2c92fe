"""Alert rules after a build, and reports on a schedule, as Dagster runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from alerts.world import File, Mailbox, Receiver, mailing, receiving
from spreading import spread
from warehouse.application import Connection, leave_expired_sessions, one

import orchestration
from fiml.settings import Settings
from orchestration.definitions import make_definitions


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    made = File(tmp_path / "alerts.yml")
    monkeypatch.setenv("SESSION_ANALYTICS_ALERTS_FILE", str(made.path))
    return made


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that logs as that of `session-analytics dagster`."""
    home = Path(orchestration.__file__).with_name("dagster.yaml")
    logs = yaml.safe_load(home.read_text(encoding="utf-8"))["python_logs"]
    with dg.DagsterInstance.local_temp(
        str(tmp_path), overrides={"telemetry": {"enabled": False}, "python_logs": logs}
    ) as local:
        yield local


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailing() as made:
        yield made


def run(instance: dg.DagsterInstance, job: str) -> dg.ExecuteInProcessResult:
    definitions = make_definitions(Settings.from_environment())
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False
    )


def check(result: dg.ExecuteInProcessResult) -> tuple[bool, dict[str, Any]]:
    [found] = [
        evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "alert_rules"
    ]
    assert found.severity is dg.AssetCheckSeverity.WARN
    return found.passed, {name: value.value for name, value in found.metadata.items()}


def test_rules_are_evaluated_after_the_build_and_a_rule_that_holds_fails_no_run(
    database: Connection, instance: dg.DagsterInstance, file: File, receiver: Receiver
) -> None:
    file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
    file.rule(channels=["hook", "log"], figure="archived_sessions", threshold=2)
    leave_expired_sessions(database, 3)
    first = run(instance, "archive_and_build")
    assert first.success
    passed, metadata = check(first)
    assert not passed
    assert (metadata["fired"], metadata["holding"]) == ("High abandonment", "High abandonment")
    # What the run has archived is in the figure.
    assert receiver.requests[0].document["value"] == 3
    lines = [entry.user_message for entry in instance.all_logs(first.run_id)]
    assert any('"event": "fired"' in line for line in lines)
    second = run(instance, "archive_and_build")
    assert second.success
    assert check(second)[1]["fired"] == "none"
    assert receiver.events == ["fired"]


@pytest.mark.parametrize("wrong", spread(["rules", "modes", "channel"], 3))
def test_whatever_is_wrong_with_alerts_fails_no_run(
    database: Connection, instance: dg.DagsterInstance, file: File, receiver: Receiver, wrong: str
) -> None:
    file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
    file.rule(channels=["hook"], figure="archived_sessions", threshold=0)
    leave_expired_sessions(database, 3)
    receiver.status = 500
    if wrong == "rules":
        file.rule(figure="sessions")
    if wrong == "modes":
        file.path.chmod(0o666)
    result = run(instance, "archive_and_build")
    assert result.success
    passed, metadata = check(result)
    assert not passed
    expected = {
        "rules": "figure is 'sessions'",
        "modes": "others may write",
        "channel": "hook",
    }
    assert expected[wrong] in metadata.get("problem", metadata.get("undelivered"))
    assert one(database, "select sum(sessions) from marts.daily_session_stats") == 3


def test_reports_are_sent_on_their_schedule_and_once(
    database: Connection, instance: dg.DagsterInstance, file: File, mailbox: Mailbox
) -> None:
    file.channels["mail"] = {
        "kind": "smtp",
        "host": "127.0.0.1",
        "port": mailbox.port,
        "security": "none",
        "sender": "alerts@example.com",
        "recipients": ["team@example.com"],
    }
    file.reports = [{"name": "weekly", "channel": "mail"}]
    file.write()
    mailbox.answer = "451 not now"
    # The later ones wait for the next attempt, and a week that is due was sent as little.
    for _ in range(3):
        assert not run(instance, "send_reports").success
    mailbox.answer = None
    database.execute("update analytics.notices set next_attempt_at = now()")
    for _ in range(2):
        assert run(instance, "send_reports").success
    assert len(mailbox.mails) == 1
    assert one(database, "select delivered_at is not null from analytics.notices")


def test_without_reports_nothing_is_run(
    database: Connection, instance: dg.DagsterInstance, file: File
) -> None:
    repository = make_definitions(Settings.from_environment()).get_repository_def()
    schedule = repository.get_schedule_def("send_reports_schedule")
    assert schedule.cron_schedule == "7 * * * *"
    with dg.build_schedule_context(instance=instance, repository_def=repository) as context:
        tick = schedule.evaluate_tick(context)
        assert not tick.run_requests
        assert tick.skip_message == "the alert file has no reports"
        file.reports = [{"name": "weekly", "folder": "."}]
        file.write()
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


def test_without_a_file_there_is_nothing_of_it() -> None:
    definitions = make_definitions(Settings(conninfo="host=127.0.0.1 port=1 dbname=nowhere"))
    assert "send_reports" not in {job.name for job in definitions.jobs or ()}
    keys = definitions.resolve_job_def("archive_and_build").asset_layer.asset_graph.asset_check_keys
    assert "alert_rules" not in {key.name for key in keys}
