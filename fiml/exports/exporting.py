"""What `SessionAnalytics` exports, of arguments that were checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from fiml.database import Connection, Database
from fiml.errors import InvalidArgumentError, UnsupportedExportFormatError
from fiml.exports.reading import (
    Rows,
    Subject,
    read_figures,
    read_periods,
    read_report,
    stream_report,
    stream_rows,
)
from fiml.exports.report import Report
from fiml.exports.rows import SERIES_COLUMNS, CsvText, series_row
from fiml.monitoring.reads import took
from fiml.sessions._arguments import check_flag, shown
from fiml.sessions.periods import Grain
from fiml.sessions.serving import ServingCache

__all__ = [
    "Format",
    "Wanted",
    "check_flag_of",
    "check_format",
    "export",
    "report_of",
    "stream_sessions",
]


# A report is four answers, each of which may take as long as one.
_ANSWERS: Final = 4


class Format(StrEnum):
    """What an export can be."""

    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be exported, and how.

    Attributes:
        grain: how long a period is; None where nobody said so.
        include_sessions: of a workbook, a row for each session.
        is_spreadsheet_safe: of CSV, that no cell is taken for a formula.
    """

    format: Format
    subject: Subject
    grain: Grain | None
    include_sessions: bool = False
    is_spreadsheet_safe: bool = False


def check_format(name: object) -> Format:
    """Return the format.

    Raises:
        UnsupportedExportFormatError: it is none of the known ones.
    """
    if isinstance(name, str) and name in set(Format):
        return Format(name)
    *others, last = (f"'{known}'" for known in Format)
    raise UnsupportedExportFormatError(
        f"Unsupported export format: {shown(name)}; expected {', '.join(others)} or {last}"
    )


def check_flag_of(value: object, name: str, given: Format, its: Format) -> bool:
    """Return True or False; True only with the format that the flag is about.

    Raises:
        InvalidArgumentError: it is neither, or true with another format.
    """
    is_set = check_flag(value, name)
    if is_set and given is not its:
        raise InvalidArgumentError(f"{name} is True; expected false unless the format is '{its}'")
    return is_set


async def export(
    database: Database, wanted: Wanted, cache: ServingCache
) -> dict[str, Any] | str | bytes:
    """Read and write it; see `SessionAnalytics.export_session_metrics`."""
    match wanted.format:
        case Format.JSON:
            return await _export_json(database, wanted, cache)
        case Format.CSV:
            return await _export_csv(database, wanted, cache)
        case Format.XLSX:
            return await _export_workbook(database, wanted, cache)
        case Format.PDF:
            # Before anything is read, where what it needs is not there.
            from fiml.exports.document import render_report

            report = await report_of(database, wanted.subject, wanted.grain, cache)
            return await asyncio.to_thread(render_report, report)


async def stream_sessions(database: Database, subject: Subject) -> AsyncGenerator[Rows, None]:
    """The rows of a window, some at a time, in one snapshot."""
    async with aclosing(database.stream(partial(stream_rows, subject=subject))) as batches:
        async for rows in batches:
            yield rows


async def _export_json(database: Database, wanted: Wanted, cache: ServingCache) -> dict[str, Any]:
    async def read(connection: Connection) -> dict[str, Any]:
        if wanted.grain is None:
            return await read_figures(connection, wanted.subject, cache)
        return await read_periods(connection, wanted.subject, wanted.grain, cache)

    return await database.run(read, is_repeatable=True)


async def _export_csv(database: Database, wanted: Wanted, cache: ServingCache) -> str:
    if wanted.grain is not None:
        text = CsvText(SERIES_COLUMNS, is_spreadsheet_safe=wanted.is_spreadsheet_safe)
        series = await _export_json(database, wanted, cache)
        return text.header() + text.lines([series_row(period) for period in series["periods"]])
    text = CsvText(is_spreadsheet_safe=wanted.is_spreadsheet_safe)
    took("source")
    batches = stream_sessions(database, wanted.subject)
    return text.header() + "".join([text.lines(rows) async for rows in batches])


async def _export_workbook(database: Database, wanted: Wanted, cache: ServingCache) -> bytes:
    from fiml.exports.workbook import WorkbookFile, render_workbook

    if not wanted.include_sessions:
        report = await report_of(database, wanted.subject, wanted.grain, cache)
        return await asyncio.to_thread(render_workbook, report)
    read = partial(stream_report, subject=wanted.subject, grain=wanted.grain, cache=cache)
    with WorkbookFile() as workbook:
        timeout = _ANSWERS * database.settings.timeout_seconds
        async with aclosing(database.stream(read, timeout=timeout)) as parts:
            async for part in parts:
                # The loop has other work meanwhile.
                if isinstance(part, Report):
                    await asyncio.to_thread(workbook.add_report, part)
                else:
                    await asyncio.to_thread(workbook.add_sessions, part)
        return await asyncio.to_thread(workbook.finish)


async def report_of(
    database: Database, subject: Subject, grain: Grain | None, cache: ServingCache
) -> Report:
    """The report, of one snapshot; `grain` None fits its periods to the window."""

    async def read(connection: Connection) -> Report:
        return await read_report(connection, subject, grain, cache)

    timeout = _ANSWERS * database.settings.timeout_seconds
    return await database.run(read, is_repeatable=True, timeout=timeout)
