"""Commands that need nothing but a checkout."""

from __future__ import annotations

import click

from fiml.cli._connection import connected_settings

__all__ = ["dagster", "demo"]


@click.command()
def demo() -> None:
    """Fill a database of its own with sample history, build, and read it."""
    from fiml.demo.command import run

    click.get_current_context().exit(run())


@click.command()
def dagster() -> None:
    """Start Dagster's web interface and schedules on this machine."""
    from fiml.cli._dagster import run

    with connected_settings() as settings:
        exit_code = run(settings)
    click.get_current_context().exit(exit_code)
