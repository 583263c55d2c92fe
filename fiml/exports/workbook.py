"""A report as a workbook (XLSX): a sheet for each topic, with charts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Final, Self
from zoneinfo import ZoneInfo

from fiml.charts import theme
from fiml.exports._extra import require
from fiml.exports.cells import MOMENT, Cells
from fiml.exports.report import FIGURES, LISTS, Figure, Report, Unit, entries, is_distribution
from fiml.exports.sheet_charts import bars_of_names, figure_over_time
from fiml.exports.wording import period_of, subject_of
from fiml.sessions.periods import Grain
from fiml.sessions.queries import SESSION_COLUMNS

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

    from fiml.exports.reading import Rows

__all__ = ["WorkbookFile", "render_workbook"]

_MOST_ROWS: Final = 1_048_576
_A4: Final = 9
_PERIODS: Final = "Time series"
_DATE: Final = "yyyy-mm-dd"
_HOUR: Final = "yyyy-mm-dd hh:mm"
# Where the table of figures begins on the first sheet, and its charts.
_FIGURES_ROW: Final = 9
_CHARTS_ROW: Final = _FIGURES_ROW + len(FIGURES) + 5
_CHARTED: Final = ("total_sessions", "total_queries", "abandonment_rate")

# How wide each of SESSION_COLUMNS is, in characters.
_SESSION_WIDTHS: Final = (38, 24, 14, 21, 17, 14, 15, 20, 32, 32, 24, 20, 12)
_NUMBER_COLUMNS: Final = {
    "duration_seconds",
    "total_queries",
    "cache_hit_rate",
    "avg_query_time_ms",
}
_FLAG_COLUMNS: Final = {"completed_normally", "abandoned"}


def render_workbook(report: Report, sessions: Iterable[Rows] = ()) -> bytes:
    """The report as a workbook; the same bytes for the same report.

    Args:
        report: what it says; see fiml.exports.reading.read_report.
        sessions: rows for one more sheet, some at a time; see queries.SESSION_COLUMNS.

    Raises:
        ModuleNotFoundError: the extra `export` is not installed.
    """
    with WorkbookFile() as workbook:
        workbook.add_report(report)
        for rows in sessions:
            workbook.add_sessions(rows)
        return workbook.finish()


class WorkbookFile:
    """A workbook that is written from the top down, so that its rows need no memory."""

    def __enter__(self) -> Self:
        new_workbook = require("xlsxwriter").Workbook
        # Rows wait there; nothing of it is left, whatever happens.
        self._folder = TemporaryDirectory(prefix="session-analytics-")
        self._file = io.BytesIO()
        self._workbook: Workbook = new_workbook(
            self._file, {"constant_memory": True, "tmpdir": self._folder.name}
        )
        self._cells = Cells(self._workbook, ZoneInfo("UTC"))
        self._zone = ZoneInfo("UTC")
        self._sessions: Worksheet | None = None
        self._session_sheets = 0
        self._session_rows = 0
        return self

    def __exit__(self, *exc_info: object) -> None:
        for sheet in self._workbook.worksheets():
            waiting: IO[str] | None = getattr(sheet, "row_data_fh", None)
            if waiting is not None:
                # Of an unfinished one nobody needs what its disk had no room for.
                with suppress(OSError):
                    waiting.close()
        self._folder.cleanup()

    def add_report(self, report: Report) -> None:
        """Write the sheets of a report."""
        self._zone = report.zone
        self._cells = Cells(self._workbook, report.zone)
        self._workbook.set_properties(
            {
                "title": "Session analytics",
                "subject": period_of(report),
                # Not the time of writing: the same report is the same file.
                "created": report.as_of.astimezone(UTC).replace(tzinfo=None),
            }
        )
        summary = self._workbook.add_worksheet("Summary")
        self._write_summary(summary, report)
        self._write_periods(self._workbook.add_worksheet(_PERIODS), report)
        self._insert_charts(summary, report)
        for key, label in LISTS.items():
            self._write_names(self._workbook.add_worksheet(label), report, key, label)
        summary.activate()

    def add_sessions(self, rows: Rows) -> None:
        """Write rows below those that are there; a full sheet is followed by another one."""
        for row in rows:
            if self._sessions is None or self._session_rows == _MOST_ROWS - 1:
                self._sessions = self._next_sessions()
            self._session_rows += 1
            self._write_session(self._sessions, self._session_rows, row)

    def finish(self) -> bytes:
        """The whole file."""
        from xlsxwriter.exceptions import FileCreateError

        self._filter_sessions()
        try:
            self._workbook.close()
        except FileCreateError as error:
            # It hides what the system said, as that the folder of waiting rows is full.
            raise error.args[0] from None
        return self._file.getvalue()

    # The sheets -----------------------------------------------------------------------------------

    def _write_summary(self, sheet: Worksheet, report: Report) -> None:
        cells = self._cells
        _set_up(sheet, [30, 19, 18, 14])
        sheet.hide_gridlines(2)
        cells.text(sheet, 0, 0, "Session analytics", cells.format(bold=True, font_size=18))
        sheet.set_row(0, 28)
        grey = cells.format(font_color=theme.MUTED)
        for row, (label, value) in enumerate(_about(report), start=1):
            cells.text(sheet, row, 0, label, grey)
            if isinstance(value, datetime):
                cells.moment(sheet, row, 1, value)
            else:
                cells.text(sheet, row, 1, value)
        for column, heading in enumerate(("", "This window", "Window before", "Change")):
            cells.heading(sheet, _FIGURES_ROW, column, heading, is_number=column > 0)
        for row, figure in enumerate(FIGURES, start=_FIGURES_ROW + 1):
            cells.text(sheet, row, 0, _label(figure))
            cells.number(sheet, row, 1, report.figures[figure.key], figure.unit)
            if report.before is not None:
                cells.number(sheet, row, 2, report.before[figure.key], figure.unit)
            self._write_change(sheet, row, 3, report, figure)
        for row, note in enumerate(_notes(report), start=_FIGURES_ROW + len(FIGURES) + 2):
            cells.text(sheet, row, 0, note, grey)

    def _write_change(
        self, sheet: Worksheet, row: int, column: int, report: Report, figure: Figure
    ) -> None:
        change = report.change(figure)
        if change is None or change.percent is None:
            return
        if figure.unit is Unit.SHARE:
            shown, value = '+0.0" points";-0.0" points";0.0" points"', change.percent
        else:
            shown, value = "+0.0%;-0.0%;0.0%", change.percent / 100
        sheet.write_number(row, column, float(value), self._cells.format(num_format=shown))

    def _write_periods(self, sheet: Worksheet, report: Report) -> None:
        cells = self._cells
        _set_up(sheet, [18, 18, *(13 for _ in FIGURES), 9], is_landscape=True)
        headings = [f"From ({self._zone.key})", "To (exclusive)", *map(_label, FIGURES), "Note"]
        for column, heading in enumerate(headings):
            is_number = 1 < column < len(headings) - 1
            cells.heading(sheet, 0, column, heading, is_number=is_number)
        sheet.set_row(0, 32)
        is_by_hour = report.series["grain"] == Grain.HOUR
        periods = report.series["periods"]
        for row, period in enumerate(periods, start=1):
            for column, key in enumerate(("period_start", "period_end")):
                moment = datetime.fromisoformat(period[key])
                # One that the window cuts begins or ends within a day.
                is_whole = moment.time() == time.min
                shown = _HOUR if is_by_hour else _DATE if is_whole else MOMENT
                cells.moment(sheet, row, column, moment, shown)
            for column, figure in enumerate(FIGURES, start=2):
                cells.number(sheet, row, column, period[figure.key], figure.unit)
            note = "open" if period["is_open"] else "partial" if period["is_partial"] else ""
            if note:
                cells.text(sheet, row, len(headings) - 1, note, cells.format(indent=1))
        _freeze(sheet, columns=1)
        sheet.autofilter(0, 0, max(1, len(periods)), len(headings) - 1)

    def _write_names(self, sheet: Worksheet, report: Report, key: str, label: str) -> None:
        cells = self._cells
        counted = entries(report.figures, key)
        total = sum(count for _, count in counted) if is_distribution(key) else 0
        headings = [label.removesuffix("s"), "Count", *(["Share"] if total else [])]
        _set_up(sheet, [40, 12, 10])
        for column, heading in enumerate(headings):
            cells.heading(sheet, 0, column, heading, is_number=column > 0)
        for row, (name, count) in enumerate(counted, start=1):
            cells.text(sheet, row, 0, name)
            cells.number(sheet, row, 1, count, Unit.COUNT)
            if total:
                cells.number(sheet, row, 2, count / total, Unit.SHARE)
        _freeze(sheet)
        if not counted:
            cells.text(sheet, 1, 0, "none in this window", cells.format(italic=True))
            return
        sheet.autofilter(0, 0, len(counted), len(headings) - 1)
        chart = bars_of_names(self._workbook, label, sheet=label, length=len(counted))
        sheet.insert_chart(1, 4, chart)

    def _insert_charts(self, sheet: Worksheet, report: Report) -> None:
        length = len(report.series["periods"])
        if not length:
            return
        row = _CHARTS_ROW
        for column, figure in enumerate(FIGURES, start=2):
            if figure.key in _CHARTED:
                chart = figure_over_time(
                    self._workbook,
                    figure,
                    Grain(report.series["grain"]),
                    sheet=_PERIODS,
                    column=column,
                    length=length,
                )
                sheet.insert_chart(row, 0, chart)
                row += 12

    def _next_sessions(self) -> Worksheet:
        self._filter_sessions()
        self._session_sheets += 1
        number = self._session_sheets
        sheet = self._workbook.add_worksheet("Sessions" if number == 1 else f"Sessions {number}")
        _set_up(sheet, _SESSION_WIDTHS, is_landscape=True)
        for column, name in enumerate(SESSION_COLUMNS):
            heading = f"{name} ({self._zone.key})" if name == "created_at" else name
            self._cells.heading(sheet, 0, column, heading)
        sheet.set_row(0, 32)
        _freeze(sheet, columns=1)
        # An id of digits is no number that somebody forgot.
        sheet.ignore_errors({"number_stored_as_text": f"A1:M{_MOST_ROWS}"})
        self._session_rows = 0
        return sheet

    def _write_session(self, sheet: Worksheet, row: int, values: Sequence[str | None]) -> None:
        for column, (name, value) in enumerate(zip(SESSION_COLUMNS, values, strict=True)):
            if value is None:
                continue
            if name == "created_at":
                self._cells.moment(sheet, row, column, datetime.fromisoformat(value))
            elif name in _FLAG_COLUMNS:
                self._cells.flag(sheet, row, column, value=value == "true")
            elif name in _NUMBER_COLUMNS:
                self._cells.number_or_text(sheet, row, column, value)
            else:
                self._cells.text(sheet, row, column, value)

    def _filter_sessions(self) -> None:
        if self._sessions is not None:
            self._sessions.autofilter(0, 0, self._session_rows, len(SESSION_COLUMNS) - 1)


def _set_up(sheet: Worksheet, widths: Sequence[int], *, is_landscape: bool = False) -> None:
    for column, width in enumerate(widths):
        sheet.set_column(column, column, width)
    sheet.set_paper(_A4)
    if is_landscape:
        sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.set_margins(left=0.5, right=0.5, top=0.6, bottom=0.7)
    sheet.set_footer("&L&8Session analytics: &A&R&8Page &P of &N")


def _freeze(sheet: Worksheet, columns: int = 0) -> None:
    """Keep the line of headings in sight, on the screen and on every page."""
    sheet.freeze_panes(1, columns)
    sheet.repeat_rows(0)


def _label(figure: Figure) -> str:
    return f"{figure.label} (s)" if figure.unit is Unit.SECONDS else figure.label


def _about(report: Report) -> list[tuple[str, str | datetime]]:
    user, kind = subject_of(report)
    return [
        ("User", user),
        ("Session type", kind),
        ("From", report.since),
        ("To (exclusive)", report.until),
        ("Time zone", report.zone.key),
        ("As of", report.as_of),
    ]


def _notes(report: Report) -> Iterator[str]:
    if report.before is not None:
        yield "The window before is as long and ends where this one begins."
    periods = report.series["periods"]
    if periods and periods[-1]["is_open"]:
        yield f"The last {report.series['grain']} goes on: its figures are those so far."
    if "message" in report.figures:
        yield report.figures["message"]
