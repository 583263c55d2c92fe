"""Printing tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from benchmarks.results import Results
from benchmarks.scale import Scale
from benchmarks.tables import Table, bars_table, section_tables

__all__ = ["print_bars", "print_sections"]


def print_sections(console: Console, scale: Scale, measured: Mapping[str, Any]) -> None:
    """Print what was measured at one scale."""
    for name, section in measured.items():
        for table in section_tables(name, section):
            _print(console, table, f"{scale} sessions. ")


def print_bars(console: Console, results: Mapping[Scale, Results]) -> None:
    """Print the bars of all scales."""
    table = bars_table(results)
    if table.rows:
        _print(console, table, "")


def _print(console: Console, table: Table, prefix: str) -> None:
    shown = rich.table.Table(title=Text(prefix + _plain(table.title)), title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(Text(_plain(column)), justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*(Text(_plain(value)) for value in row))
    console.print(shown)


def _plain(text: str) -> str:
    return text.replace("`", "").replace("**", "")
