"""Commands about what is told without being asked: alerts and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import counted, out_console, printable, reporting
from fiml.cli._group import Failure
from fiml.errors import SessionAnalyticsError
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

if TYPE_CHECKING:
    from fiml.alerts.episodes import RuleState
    from fiml.alerts.model import Report, Rule
    from fiml.alerts.notices import Undelivered
    from fiml.alerts.reports import LastSent

__all__ = ["alerts", "reports"]

_STYLES: Final = {
    "holds": "bold red",
    "unknown": "bold yellow",
    "too few sessions": "dim",
    "holds not": "green",
}
# As it is kept, and as it is said.
_SAID: Final = {"holds not": "does not hold"}
_WIDTH_OF_TABLE: Final = 120


@click.command()
@click.option(
    "--evaluate", is_flag=True, help="Evaluate every rule now, and deliver what is to be told."
)
def alerts(*, evaluate: bool) -> None:
    """Show the alert rules, or evaluate them now.

    With what was found last, and what waits to be delivered. The rules are in the file of
    SESSION_ANALYTICS_ALERTS_FILE. Exit code 1 where a rule could not be evaluated or a notice not
    be delivered.
    """
    from fiml.alerts.evaluation import evaluate as run
    from fiml.alerts.file import load

    with connected_settings(Purpose.BUILDER if evaluate else Purpose.READER) as settings:
        rules = load(settings).rules
        if evaluate:
            _log_to_stderr()
            with reporting("Evaluating alert rules"):
                evaluation = run_async(run(settings))
            click.echo(
                f"{counted(evaluation.rules, 'rule')} evaluated: {len(evaluation.fired)} fired, "
                f"{len(evaluation.over)} over, "
                f"{counted(len(evaluation.delivered), 'notice')} delivered.",
                err=True,
            )
        states, waiting = run_async(_look(settings))
    _show(rules, states)
    _show_waiting(waiting)
    if any(state.state == "unknown" for state in states) or any(one.attempts for one in waiting):
        click.get_current_context().exit(1)


@click.command()
@click.option("--send", is_flag=True, help="Send the reports that are due and were not sent.")
def reports(*, send: bool) -> None:
    """Show the weekly reports, or send those that are due.

    They are in the file of SESSION_ANALYTICS_ALERTS_FILE. A report is due on the Monday after its
    week, and is sent once, however often this runs; one that failed is tried again at once. Exit
    code 1 where one could not be delivered.
    """
    from fiml.alerts.file import load
    from fiml.alerts.model import FOLDER
    from fiml.alerts.reports import send_reports

    found = load(Settings.from_environment()).reports
    if not send:
        _show_reports(found)
        return
    with connected_settings(Purpose.BUILDER) as settings, reporting("Sending reports"):
        sent = run_async(send_reports(settings, at_once=True))
    folders = {report.name: report.folder for report in found}

    def way(name: str, channel: str) -> str:
        return f"to folder {folders.get(name)}" if channel == FOLDER else f"by {channel}"

    for name, week, channel in sent.delivered:
        click.echo(printable(f"{name}, {week}: sent {way(name, channel)}."))
    for (name, channel), problem in sent.undelivered.items():
        told = problem if channel == FOLDER else f"by {channel}: {problem}"
        click.echo(printable(f"{name}: not sent: {told}"), err=True)
    if not sent.delivered and sent.succeeded:
        click.echo("Nothing to send: no report is due that was not sent.")
    if not sent.succeeded:
        click.get_current_context().exit(1)


def _show_reports(found: Sequence[Report]) -> None:
    from datetime import UTC, datetime

    from fiml.alerts.reports import is_waiting, last_sent, next_week

    if not found:
        click.echo("The file has no reports.")
        return
    known: Mapping[str, LastSent] | None = None
    waiting: list[Undelivered] = []
    problem = ""
    try:
        with connected_settings(Purpose.READER) as settings:
            known = run_async(last_sent(settings))
            _, waiting = run_async(_look(settings))
    except (Failure, SessionAnalyticsError) as error:
        problem = str(error)
    now = datetime.now(UTC)
    for report in found:
        ways = [
            *([f"by {report.channel}"] if report.channel else []),
            *([f"to folder {report.folder}"] if report.folder else []),
        ]
        lines = [
            f"{report.name}: {report.title}, Mondays at {report.at:%H:%M} "
            f"{report.timezone.key}, {' and '.join(ways)}"
        ]
        if known is not None:
            sent = known.get(report.name)
            week, due = next_week(report, sent, now)
            last = f"{sent.week}, at {sent.at:%Y-%m-%d %H:%M} UTC" if sent else "none yet"
            when = "now" if due <= now else f"from {due:%Y-%m-%d %H:%M} UTC on"
            lines += [f"  sent last: {last}", f"  due next:  {week.label}, {when}"]
        for line in lines:
            click.echo(printable(line))
    if known is None:
        click.echo(printable(f"What was sent is not known: {problem}"), err=True)
    failed = [
        notice
        for notice in waiting
        if notice.attempts and any(is_waiting(notice, report) for report in found)
    ]
    _show_waiting(failed)
    if failed:
        click.get_current_context().exit(1)


async def _look(settings: Settings) -> tuple[list[RuleState], list[Undelivered]]:
    from fiml.alerts.episodes import rule_states
    from fiml.alerts.notices import undelivered
    from fiml.database import Database

    async with Database(settings) as database:
        states = await database.run(rule_states, is_repeatable=True)
        waiting = await database.run(undelivered, is_repeatable=True)
    return states, waiting


def _log_to_stderr() -> None:
    import logging

    logger = logging.getLogger("fiml.alerts")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _show(rules: Sequence[Rule], states: Sequence[RuleState]) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from fiml.alerts.wording import condition, number

    if not rules:
        click.echo("The file has no rules.")
        return
    known: Mapping[str, RuleState] = {state.rule_name: state for state in states}
    console = out_console()
    indent = (0, 0, 0, 2)
    is_table = console.width >= _WIDTH_OF_TABLE
    table = Table(box=None, header_style="dim")
    for heading in ("rule", "holds where", "state"):
        table.add_column(heading, overflow="fold")
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("as of (UTC)", no_wrap=True)
    for rule in rules:
        state = known.get(rule.name)
        told = Text("not evaluated yet", style="dim")
        if state is not None:
            told = Text(_SAID.get(state.state, state.state), style=_STYLES.get(state.state, ""))
            if state.fired_at is not None:
                told.append(f", fired {state.fired_at:%Y-%m-%d %H:%M}", style="bold red")
            if state.problem is not None:
                told.append(f": {printable(state.problem)}")
        name = Text(f"{printable(rule.name)} ({rule.severity})")
        where = Text(printable(condition(rule)))
        figure = "-" if state is None or state.value is None else number(state.value)
        moment = f"{state.evaluated_at:%Y-%m-%d %H:%M}" if state and state.evaluated_at else "-"
        if is_table:
            table.add_row(name, where, told, figure, moment)
            continue
        # Too narrow for columns that could be read.
        name.stylize("bold")
        if figure != "-":
            told.append(f"; the figure is {figure}", style="default")
        if moment != "-":
            told.append(f", as of {moment} UTC", style="default")
        console.print(
            name,
            Padding(where, indent, expand=False),
            Padding(told, indent, expand=False),
            sep="\n",
        )
    if is_table:
        console.print(table)


def _show_waiting(waiting: Sequence[Undelivered]) -> None:
    from fiml.alerts.notices import way

    for notice in waiting:
        click.echo(
            printable(
                f"Not delivered yet: {notice.subject} ({notice.kind}) {way(notice.channel)}, "
                f"{counted(notice.attempts, 'attempt')}"
                + (f", the last one: {notice.problem}" if notice.problem else "")
                + f"; next from {notice.next_attempt_at:%Y-%m-%d %H:%M} UTC on."
            ),
            err=True,
        )
