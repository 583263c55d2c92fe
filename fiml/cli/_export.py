"""The command that writes files: figures, rows, a workbook, a report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import err_console, is_terminal, json_document, printable, reporting
from fiml.cli._group import Failure, WrongUsage
from fiml.cli._options import filter_options, window_options
from fiml.errors import SessionAnalyticsError
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

if TYPE_CHECKING:
    from fiml.sessions.analytics import SessionAnalytics

__all__ = ["export"]

_BINARY: Final = ("xlsx", "pdf")
_FORMATS: Final = ("json", "csv", *_BINARY)


@click.command()
@click.option(
    "--format",
    "given_format",
    help="json: the figures; csv: a row for each session; xlsx: a workbook with charts; "
    "pdf: a report. Default: what the name of --output ends in, else json.",
)
@filter_options
@window_options
@click.option(
    "--grain",
    help="hour, day, week or month. With json and csv: the figures of each of them; default with "
    "the others: what fits the window.",
)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    help="Whose calendar days follow, and times without an offset, such as Europe/Athens.",
)
@click.option(
    "--sessions", "with_sessions", is_flag=True, help="With xlsx: each session's row too."
)
@click.option(
    "--spreadsheet-safe/--exact",
    "spreadsheet_safe",
    default=None,
    help="With csv: put an apostrophe before what a spreadsheet might take for a formula, or do "
    "not; default: safe into a file, exact to standard output.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path, allow_dash=True),
    default="-",
    help="A file, which is there whole or not at all; default: standard output.",
)
def export(
    *,
    given_format: str | None,
    with_sessions: bool,
    spreadsheet_safe: bool | None,
    output: Path,
    **asked: Any,
) -> None:
    """Write figures or rows to a file: JSON, CSV, XLSX or PDF.

    Figures as JSON, sessions as CSV, a workbook (XLSX) or a report (PDF), of the window of --days,
    or of --hours, or of --since and --until. Workbook and report compare it with the window before.
    """
    format_ = _format(given_format, output)
    if with_sessions and format_ != "xlsx":
        raise WrongUsage("--sessions is about --format xlsx")
    if spreadsheet_safe is not None and format_ != "csv":
        raise WrongUsage("--spreadsheet-safe and --exact are about --format csv")
    is_file = str(output) != "-"
    is_safe = format_ == "csv" and (is_file if spreadsheet_safe is None else spreadsheet_safe)

    async def work(settings: Settings) -> None:
        from fiml.sessions.analytics import SessionAnalytics
        from fiml.sessions.store import SessionStore

        async with SessionStore(settings) as store:
            analytics = SessionAnalytics(store)
            if format_ == "csv" and asked["grain"] is None:
                await _write_rows(analytics, asked, write, report, is_safe=is_safe)
                return
            exported = await analytics.export_session_metrics(
                format_, include_sessions=with_sessions, spreadsheet_safe=is_safe, **asked
            )
            write(_encoded(exported))

    with (
        connected_settings(Purpose.READER) as settings,
        _destination(output, is_binary=format_ in _BINARY) as write,
        _progress(is_file=is_file) as report,
    ):
        run_async(work(settings))
    if is_file:
        click.echo(f"Written to {printable(str(output))}.", err=True)


def _format(given: str | None, output: Path) -> str:
    """What is to be written: what was asked for, which the file's name must not contradict."""
    ending = output.suffix.lower().removeprefix(".")
    if given is None:
        return ending if ending in _FORMATS else "json"
    format_ = given.lower()
    if format_ not in _FORMATS:
        # The library refuses it, in its own words.
        return given
    if ending in _FORMATS and ending != format_:
        raise WrongUsage(
            f"--format is {format_}, and the name of the file ends in {output.suffix}; expected "
            "both to say the same, or --output alone"
        )
    return format_


async def _write_rows(
    analytics: SessionAnalytics,
    asked: dict[str, Any],
    write: Callable[[bytes], object],
    report: Callable[[str], None],
    *,
    is_safe: bool,
) -> None:
    from fiml.exports.rows import CsvText

    text = CsvText(is_spreadsheet_safe=is_safe)
    subject = {name: value for name, value in asked.items() if name != "grain"}
    # Nothing is written before there is an answer.
    header = text.header()
    count = 0
    async with aclosing(analytics.stream_session_metrics(**subject)) as batches:
        async for rows in batches:
            write((header + text.lines([list(row.values()) for row in rows])).encode())
            header = ""
            count += len(rows)
            report(f"{count:,} sessions")
    write(header.encode())


def _encoded(exported: dict[str, Any] | str | bytes) -> bytes:
    # Bytes, so that the line ends stay as they are.
    if isinstance(exported, dict):
        return (json_document(exported) + "\n").encode()
    return exported if isinstance(exported, bytes) else exported.encode()


@contextmanager
def _destination(output: Path, *, is_binary: bool) -> Iterator[Callable[[bytes], object]]:
    """Where to write to: a file that is replaced in the end, or standard output."""
    if str(output) == "-":
        # A terminal is no program that would read it back, and obeys what it is shown.
        is_shown = is_terminal(sys.stdout)
        if is_shown and is_binary:
            raise WrongUsage("a terminal cannot show this format: name a file with --output")
        yield _show if is_shown else sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    from fiml.files import replacing

    try:
        with replacing(output) as file:
            yield file.write
    except (SessionAnalyticsError, BrokenPipeError):
        # A deadline that passed is an OSError as well; and who reads a pipe may have enough.
        raise
    except OSError as error:
        raise Failure(f"cannot write {printable(str(output))}: {error.strerror or error}") from None


def _show(text: bytes) -> None:
    lines = text.decode().replace("\r\n", "\n").split("\n")
    sys.stdout.buffer.write("\n".join(map(printable, lines)).encode())


@contextmanager
def _progress(*, is_file: bool) -> Iterator[Callable[[str], None]]:
    # Where somebody looks, and not among what is written to the same terminal.
    if not err_console().is_terminal or not (is_file or not is_terminal(sys.stdout)):
        yield lambda _note: None
        return
    with reporting("Exporting", at_most_every=1.0) as report:
        yield report
