"""Rows as CSV: RFC 4180 quoting, `\\r\\n` line ends, and a header line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fiml.sessions.queries import SESSION_COLUMNS

__all__ = ["SERIES_COLUMNS", "CsvText", "plain_cell", "series_row", "spreadsheet_safe_cell"]

# What no formula begins with, in any spreadsheet and language. JSON begins with these marks.
_JSON_STARTS: Final = frozenset('[{"')

SERIES_COLUMNS: Final = (
    "period_start",
    "period_end",
    "is_open",
    "is_partial",
    "total_sessions",
    "active_sessions",
    "archived_sessions",
    "total_queries",
    "avg_duration_seconds",
    "avg_queries_per_session",
    "abandonment_rate",
    "top_assets",
    "query_type_distribution",
    "session_type_breakdown",
    "popular_tags",
)


class CsvText:
    """Makes CSV of rows, a few at a time."""

    def __init__(
        self, columns: Sequence[str] = SESSION_COLUMNS, *, is_spreadsheet_safe: bool = False
    ) -> None:
        """Take the columns, which are the header line.

        Args:
            columns: in their order.
            is_spreadsheet_safe: let no cell be taken for a formula; see `spreadsheet_safe_cell`.
        """
        self._columns = columns
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._cell = spreadsheet_safe_cell if is_spreadsheet_safe else None

    def header(self) -> str:
        """The header line."""
        self._writer.writerow(self._columns)
        return self._taken()

    def lines(self, rows: Sequence[Sequence[str | None]]) -> str:
        """The lines of these rows."""
        if self._cell is None:
            self._writer.writerows(rows)
        else:
            cell = self._cell
            self._writer.writerows([[cell(value) for value in row] for row in rows])
        return self._taken()

    def _taken(self) -> str:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


def series_row(period: Mapping[str, Any]) -> list[str | None]:
    """A period of the documented time series as text, in the order of SERIES_COLUMNS."""
    return [_text(period[column]) for column in SERIES_COLUMNS]


def spreadsheet_safe_cell(value: str | None) -> str | None:
    """A cell that no spreadsheet takes for a formula.

    A value that begins with anything but a letter, a digit or the mark of JSON gets an apostrophe
    before it, unless it is a whole number; so `plain_cell` gives every value back.
    """
    if not value or value[0].isalnum() or value[0] in _JSON_STARTS or _is_whole_number(value):
        return value
    return f"'{value}"


def plain_cell(cell: str) -> str:
    """What `spreadsheet_safe_cell` was given."""
    return cell.removeprefix("'")


def _is_whole_number(value: str) -> bool:
    # A negative duration, say: nothing in it can be called.
    return value[:1] == "-" and value[1:].isascii() and value[1:].isdecimal()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    # As PostgreSQL writes them: true, 2, 0.5, ["AAPL"].
    return json.dumps(value, ensure_ascii=False)
