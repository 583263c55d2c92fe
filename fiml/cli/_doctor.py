"""The command that finds what is wrong."""

from __future__ import annotations

from typing import Final

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import out_console, printable

__all__ = ["doctor"]

_STYLES: Final = {"ok": "green", "warning": "yellow", "error": "bold red"}


@click.command()
def doctor() -> None:
    """Find what is wrong, and what to do; exit 1 where something is."""
    from rich.table import Table
    from rich.text import Text

    from fiml.sessions.health import examine, is_healthy
    from fiml.sessions.roles import Purpose

    with connected_settings(Purpose.BUILDER) as settings:
        findings = run_async(examine(settings))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        told = Text.assemble(
            (finding.title.capitalize(), "bold"), ": ", printable(finding.detail), overflow="fold"
        )
        if finding.remedy is not None:
            told.append("\n→ " + printable(finding.remedy), style="cyan")
        table.add_row(Text(finding.severity.value, style=_STYLES[finding.severity]), told)
    out_console().print(table)
    if not is_healthy(findings):
        click.get_current_context().exit(1)
