"""The commands, called as a person calls them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from alerts.world import Connection, File, Receiver, add_sessions
from click.testing import CliRunner, Result

from fiml.cli import main
from fiml.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings) -> Run:
    def invoke(*arguments: str, columns: int = 160) -> Result:
        environment = {
            "DATABASE_URL": settings.conninfo,
            "SESSION_ANALYTICS_ALERTS_FILE": str(settings.alerts_file),
            "COLUMNS": str(columns),
        }
        # A process has one standard error; here each command has its own.
        logging.getLogger("fiml.alerts").handlers.clear()
        return CliRunner().invoke(main, arguments, env=environment)

    return invoke


def test_rules_are_shown_with_what_was_found(database: Connection, run: Run, file: File) -> None:
    file.rule(minimum_sessions=5)
    file.rule(name="[red]Quiet[/red]", figure="total_sessions", comparison="at_most", threshold=0)
    before = run("alerts")
    assert before.exit_code == 0
    assert before.stdout.count("not evaluated yet") == 2
    add_sessions(database, 10, abandoned=True)
    evaluated = run("alerts", "--evaluate")
    assert evaluated.exit_code == 0
    assert "2 rules evaluated: 1 fired, 0 over, 1 notice delivered." in evaluated.stderr
    assert '"event": "fired"' in evaluated.stderr
    after = run("alerts")
    assert after.exit_code == 0
    told = " ".join(after.stdout.split())
    assert "abandonment_rate above 0.3 over 1 day, of at least 5 sessions" in told
    assert "holds, fired 20" in told
    assert "[red]Quiet[/red] (warning) total_sessions at most 0 over 1 day does not hold 10" in told


def test_what_is_not_delivered_is_shown_and_doctor_finds_it(
    database: Connection, run: Run, file: File, receiver: Receiver
) -> None:
    file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
    file.rule(channels=["hook"])
    receiver.status = 500
    add_sessions(database, 10, abandoned=True)
    assert run("alerts", "--evaluate").exit_code == 1
    shown = run("alerts")
    assert shown.exit_code == 1
    assert (
        "Not delivered yet: High abandonment (fired) by hook, 1 attempt, the last one: answered "
        "500; next from " in shown.stderr
    )
    found = " ".join(run("doctor").stdout.split())
    assert "Undelivered notices: 1 could not be delivered yet" in found
    assert "hook: answered 500." in found
    receiver.status = 204
    assert run("alerts", "--evaluate").exit_code == 0
    assert "1 rules are evaluated." in " ".join(run("doctor").stdout.split())


def test_doctor_finds_rules_that_are_not_evaluated(
    database: Connection, run: Run, file: File
) -> None:
    file.rule()
    run("alerts", "--evaluate")
    database.execute("update analytics.alert_rules set evaluated_at = now() - interval '1 day'")
    found = " ".join(run("doctor").stdout.split())
    assert "Alert rules are not evaluated: The last time was 24 h ago" in found
    database.execute("update analytics.alert_rules set state = 'unknown', problem = 'it broke'")
    found = " ".join(run("doctor").stdout.split())
    assert "1 of 1 rules; one of them: it broke." in found


def test_a_wrong_file_is_a_sentence(run: Run, file: File) -> None:
    file.rule(figure="sessions")
    for command in (("alerts",), ("alerts", "--evaluate"), ("reports",), ("reports", "--send")):
        refused = run(*command)
        assert refused.exit_code == 1
        assert refused.stdout == ""
        told = refused.stderr.splitlines()[-1]
        assert told.startswith(
            "Error: alerts.yml line 1: rule 'High abandonment': figure is 'sessions'; expected"
        )


def test_reports_are_shown_and_sent(
    database: Connection, run: Run, file: File, settings: Settings
) -> None:
    file.reports = [{"name": "weekly", "folder": ".", "timezone": "Europe/Athens"}]
    file.write()
    folder = file.path.parent
    first, last, due = run("reports").stdout.splitlines()
    assert first == (f"weekly: Weekly report, Mondays at 06:00 Europe/Athens, to folder {folder}")
    assert last == "  sent last: none yet"
    week = re.fullmatch(r"  due next:  (20..-W..), now", due)
    assert week is not None
    assert run("reports", "--send").stdout == f"weekly, {week[1]}: sent to folder {folder}.\n"
    again = run("reports", "--send").stdout
    assert again == "Nothing to send: no report is due that was not sent.\n"
    _, last, due = run("reports").stdout.splitlines()
    assert re.fullmatch(rf"  sent last: {week[1]}, at 20..-..-.. ..:.. UTC", last)
    assert re.fullmatch(r"  due next:  20..-W.., from 20..-..-.. 0[34]:00 UTC on", due)
    assert len(list(file.path.parent.glob("weekly.*.pdf"))) == 1


def test_a_folder_that_is_missing_is_named(run: Run, file: File, database: Connection) -> None:
    file.reports = [{"name": "weekly", "folder": "missing"}]
    file.write()
    failed = run("reports", "--send")
    assert failed.exit_code == 1
    folder = file.path.parent / "missing"
    assert failed.stderr.splitlines()[-1] == (
        f"weekly: not sent: cannot write to the folder {folder}: No such file or directory; make "
        "it first"
    )


def test_a_report_that_failed_is_a_failure_until_it_is_sent_and_sending_does_not_wait(
    run: Run, file: File, database: Connection
) -> None:
    file.reports = [{"name": "weekly", "folder": "missing"}]
    file.write()
    # From the second failure on the next attempt is a quarter of an hour away, and more.
    for _ in range(3):
        failed = run("reports", "--send")
        assert failed.exit_code == 1
        assert "No such file or directory; make it first" in failed.stderr
        assert "Nothing to send" not in failed.stdout
    shown = run("reports")
    assert shown.exit_code == 1
    assert "Not delivered yet: weekly (report) to its folder, 3 attempts" in shown.stderr
    (file.path.parent / "missing").mkdir()
    assert run("reports", "--send").exit_code == 0
    assert run("reports").exit_code == 0
    assert len(list(file.path.parent.glob("missing/weekly.*.pdf"))) == 1


def test_reports_are_shown_without_a_database(run: Run, file: File) -> None:
    file.reports = [{"name": "weekly", "folder": "."}]
    file.write()
    environment = {
        "DATABASE_URL": "postgresql://someone@127.0.0.1:1/nothing",
        "SESSION_ANALYTICS_ALERTS_FILE": str(file.path),
    }
    shown = CliRunner().invoke(main, ["reports"], env=environment)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("weekly: Weekly report, Mondays at 06:00 UTC, to folder ")
    assert shown.stderr.startswith("What was sent is not known: ")


def test_a_file_without_reports_says_so(run: Run, file: File) -> None:
    file.rule()
    assert run("reports").stdout == "The file has no reports.\n"


def test_rules_can_be_read_at_80_columns(database: Connection, run: Run, file: File) -> None:
    file.rule(minimum_sessions=5)
    add_sessions(database, 10, abandoned=True)
    run("alerts", "--evaluate")
    shown = run("alerts", columns=80)
    name, where, state = shown.stdout.splitlines()
    assert name == "High abandonment (warning)"
    assert where == "  abandonment_rate above 0.3 over 1 day, of at least 5 sessions"
    assert re.fullmatch(
        r"  holds, fired 20..-..-.. ..:..; the figure is 1, as of 20..-..-.. ..:.. UTC", state
    )
