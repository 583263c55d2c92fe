"""The group of all commands."""

from __future__ import annotations

import click

from fiml.cli._alerts import alerts, reports
from fiml.cli._database import erase_user, migrate, retention, uninstall
from fiml.cli._demo import dagster, demo
from fiml.cli._doctor import doctor
from fiml.cli._export import export
from fiml.cli._figures import stats
from fiml.cli._group import CommandLine
from fiml.cli._mcp import mcp
from fiml.cli._run import run
from fiml.cli._series import timeseries
from fiml.cli._settings import settings
from fiml.cli._warehouse import archive, build, fold, reconcile
from fiml.cli._web import serve

__all__ = ["main"]


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="session-analytics", prog_name="session-analytics")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
def main(*, debug: bool) -> None:
    """Session analytics on PostgreSQL and dbt.

    The database is the one of DATABASE_URL (or of libpq's PGHOST, PGDATABASE and so on); without
    them, the demo's local one. `session-analytics settings` lists every setting.
    """


for command in (
    demo,
    stats,
    timeseries,
    export,
    doctor,
    migrate,
    archive,
    build,
    fold,
    reconcile,
    alerts,
    reports,
    serve,
    mcp,
    dagster,
    retention,
    erase_user,
    uninstall,
    run,
    settings,
):
    main.add_command(command)
