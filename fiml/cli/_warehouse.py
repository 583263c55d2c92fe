"""Commands that bring sessions into the marts, and compare."""

from __future__ import annotations

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import counted, out_console, printable, reporting
from fiml.cli._monitoring import metrics_option, monitored
from fiml.monitoring.addresses import Address
from fiml.monitoring.otlp import sending_spans
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["archive", "build", "fold", "reconcile"]


@click.command()
@click.option(
    "--retry-quarantined", is_flag=True, help="Try the sessions again that were set aside before."
)
def archive(*, retry_quarantined: bool) -> None:
    """End expired sessions and record their metrics."""
    from fiml.database import Database
    from fiml.sessions.archival import ArchivalResult, archive_expired
    from fiml.sessions.maintenance import release_quarantined_sessions

    async def work(settings: Settings) -> ArchivalResult:
        async with Database(settings) as database:
            if retry_quarantined:
                released = await release_quarantined_sessions(database)
                report(f"{released:,} set aside before are tried again")
            return await archive_expired(
                database, on_progress=lambda so_far: report(f"{so_far.archived:,} archived")
            )

    with (
        connected_settings(Purpose.APP) as settings,
        sending_spans(settings),
        reporting("Archiving", at_most_every=1.0) as report,
    ):
        result = run_async(work(settings))
    click.echo(f"{counted(result.archived, 'session')} archived.")
    if result.quarantined:
        click.echo(
            f"{result.quarantined:,} could not be and were set aside; "
            "`session-analytics doctor` says why.",
            err=True,
        )


@click.command()
@click.option(
    "--from-scratch",
    is_flag=True,
    help="Make every mart again from the source rows; readers see the old rows meanwhile.",
)
def build(*, from_scratch: bool) -> None:
    """Fold what changed into the marts, and test them."""
    from fiml.warehouse.builds import build as run_build

    title = "Building from scratch" if from_scratch else "Building"
    with (
        connected_settings(Purpose.BUILDER) as settings,
        sending_spans(settings),
        reporting(title) as report,
    ):
        result = run_build(settings, from_scratch=from_scratch, on_line=report)
    click.echo(f"{result.nodes} models and tests passed in {result.seconds:.1f} s.")


@click.command()
@metrics_option
def fold(*, metrics: Address | None) -> None:
    """Fold what comes in, every second, until Ctrl-C.

    Any number may run, beside builds: one of them folds, and the others stand by. Answers are as
    exact without it, only slower. SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS changes the second.
    """
    import logging

    from fiml.warehouse.folder import run

    logging.getLogger("fiml.warehouse").setLevel(logging.INFO)
    with connected_settings(Purpose.BUILDER) as settings, monitored(settings, metrics):
        exit_code = run(settings)
    click.get_current_context().exit(exit_code)


@click.command()
@click.option(
    "--all", "all_days", is_flag=True, help="Compare every day, not only those last touched."
)
def reconcile(*, all_days: bool) -> None:
    """Compare the marts with the source rows.

    Exit code 1 where they differ.
    """
    from rich.table import Table
    from rich.text import Text

    from fiml.warehouse.reconcile import reconcile as compare

    title = "Comparing all days" if all_days else "Comparing the days last touched"
    with connected_settings(Purpose.BUILDER) as settings, reporting(title):
        drifts = compare(settings, all_days=all_days)
    if not drifts:
        click.echo("Every mart holds what the source says.")
        return
    table = Table(
        title=f"{counted(len(drifts), 'row')} of the marts unlike the source",
        title_style="bold red",
    )
    for heading in ("mart", "day", "key", "figure"):
        table.add_column(heading, overflow="fold")
    for heading in ("expected", "found"):
        table.add_column(heading, justify="right")
    for drift in drifts:
        key = ", ".join(printable(value) for value in drift.key.values())
        for figure, expected in drift.expected.items():
            table.add_row(
                drift.mart,
                str(drift.activity_date),
                # No markup: a symbol may look like it.
                Text(key),
                figure,
                f"{expected:,}",
                f"{drift.found[figure]:,}",
            )
    out_console().print(table)
    click.echo(
        "Run `session-analytics build --from-scratch` to repair it, and `session-analytics doctor` "
        "to see why.",
        err=True,
    )
    click.get_current_context().exit(1)
