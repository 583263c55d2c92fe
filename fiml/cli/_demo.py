"""Commands that need nothing but a checkout."""

from __future__ import annotations

import click

from fiml.cli._connection import all_logins
from fiml.cli._monitoring import metrics_option, monitored, teller
from fiml.monitoring.addresses import Address
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["dagster", "demo"]


@click.command()
@click.option("--no-fold", is_flag=True, help="Without the process that folds every second.")
def demo(*, no_fold: bool) -> None:
    """Fill a sample database, build it, and read it."""
    from fiml.demo.command import run

    click.get_current_context().exit(run(fold=not no_fold))


@click.command()
@metrics_option
@click.option("--no-fold", is_flag=True, help="Leave folding every second to others.")
def dagster(*, metrics: Address | None, no_fold: bool) -> None:
    """Start Dagster's web interface and schedules on this machine.

    A process beside it folds what comes in every second.
    """
    from fiml.cli._dagster import run

    purposes = [Purpose.APP, Purpose.BUILDER]
    if Settings.from_environment().alerts_file is not None:
        purposes.append(Purpose.READER)
    with (
        all_logins(*purposes) as settings,
        monitored(settings.connecting_as(Purpose.BUILDER), metrics),
    ):
        exit_code = run(settings, on_line=teller(settings), fold=not no_fold)
    click.get_current_context().exit(exit_code)
