"""Workbooks, read again by another library."""

import csv
import io
import re
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import psycopg
import pytest
from exports.reports import made_up
from hostile.strings import hostile_strings, is_storable

from fiml.exports import workbook as workbooks
from fiml.exports.report import FIGURES, LISTS, entries
from fiml.exports.workbook import WorkbookFile, render_workbook
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.periods import Grain
from fiml.sessions.queries import SESSION_COLUMNS

Connection = psycopg.Connection[tuple[Any, ...]]

NAMES = [text for text in hostile_strings(600) if is_storable(text)]
ROW = (
    *("00000000-0000-0000-0000-000000000001", "ann", "equity", "2026-11-29T23:30:00.123000+00:00"),
    *("601", "5", "0.250000", None, '["AAPL"]', '{"price": 5}', '["tech"]', "true", "false"),
)


def opened(content: bytes) -> openpyxl.Workbook:
    return openpyxl.load_workbook(io.BytesIO(content))


def cells(content: bytes, sheet: str) -> list[tuple[Any, ...]]:
    """The rows; what XML cannot hold is escaped in it, which the reader leaves to its caller."""
    return [
        tuple(_unescaped(value) if isinstance(value, str) else value for value in row)
        for row in opened(content)[sheet].iter_rows(values_only=True)
    ]


def _unescaped(text: str) -> str:
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), text)


def parts(content: bytes) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            yield name, archive.read(name).decode()


def test_there_is_a_sheet_for_each_topic_and_rows_where_they_are_wanted() -> None:
    topics = ["Summary", "Time series", "Assets", "Tags", "Query types", "Session types"]
    assert opened(render_workbook(made_up())).sheetnames == topics
    assert opened(render_workbook(made_up(), [[ROW]])).sheetnames == [*topics, "Sessions"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Athens"])
def test_the_figures_are_those_of_the_report(zone: str) -> None:
    report = made_up(user_id="ann", zone=zone)
    rows = {row[0]: row[1:] for row in cells(render_workbook(report), "Summary") if row[0]}
    assert rows["User"][0] == "ann"
    assert rows["Session type"][0] == "all types"
    assert rows["Time zone"][0] == zone
    for label, moment in (
        ("From", report.since),
        ("To (exclusive)", report.until),
        ("As of", report.as_of),
    ):
        assert rows[label][0] == moment.replace(tzinfo=None)
    assert report.before is not None
    for figure in FIGURES:
        label = "Average duration (s)" if figure.label == "Average duration" else figure.label
        assert rows[label][0] == report.figures[figure.key]
        assert rows[label][1] == report.before[figure.key]
    now, before = (each["total_sessions"] for each in (report.figures, report.before))
    assert rows["Sessions"][2] == pytest.approx((now - before) / before, abs=0.0005)


@pytest.mark.parametrize("grain", list(Grain))
def test_periods_are_those_of_the_report_with_real_dates(grain: Grain) -> None:
    report = made_up(days=40, grain=grain, zone="Europe/Athens")
    headings, *rows = cells(render_workbook(report), "Time series")
    assert headings[0] == "From (Europe/Athens)"
    periods = report.series["periods"]
    assert len(rows) == len(periods)
    for row, period in zip(rows, periods, strict=True):
        for found, key in zip(row[:2], ("period_start", "period_end"), strict=True):
            assert found == datetime.fromisoformat(period[key]).replace(tzinfo=None)
        assert list(row[2:9]) == [period[figure.key] for figure in FIGURES]
        note = "open" if period["is_open"] else "partial" if period["is_partial"] else None
        assert row[9] == note


def test_any_name_is_read_again_as_it_was_and_none_is_more_than_text() -> None:
    counted = [(name, len(NAMES) - index) for index, name in enumerate(NAMES)]
    report = made_up(
        user_id=NAMES[0], assets=counted, tags=counted, query_types=counted, session_types=counted
    )
    content = render_workbook(report)
    for key, label in LISTS.items():
        _, *rows = cells(content, label)
        assert [row[:2] for row in rows] == entries(report.figures, key) == counted
        for row in opened(content)[label].iter_rows():
            assert {cell.data_type for cell in row} <= {"s", "n", "inlineStr"}
            assert not any(cell.hyperlink for cell in row)
    for name, text in parts(content):
        assert "<hyperlink" not in text
        assert "relationships/hyperlink" not in text
        if name.startswith("xl/worksheets/sheet"):
            assert "<f>" not in text
            assert "<f " not in text


def test_a_name_that_looks_like_a_formula_is_shown_as_it_is() -> None:
    formula = '=HYPERLINK("http://x","y")'
    content = render_workbook(made_up(user_id=formula, assets=[(formula, 1)]))
    assert cells(content, "Assets")[1][:2] == (formula, 1)
    assert cells(content, "Summary")[1][1] == formula


def test_what_no_cell_can_hold_is_cut_and_shows_it() -> None:
    longest = "\U0001f600" * 16_383 + "x"
    row = list(ROW)
    for given, found in (
        (longest, longest),
        (longest + "y", longest[:-1] + "…"),
        ("x" * 40_000, "x" * 32_766 + "…"),
    ):
        row[8] = given
        assert cells(render_workbook(made_up(), [[tuple(row)]]), "Sessions")[1][8] == found


def test_sessions_are_numbers_dates_flags_and_text() -> None:
    _, row = cells(render_workbook(made_up(zone="Europe/Athens"), [[ROW]]), "Sessions")
    assert row == (
        *(ROW[0], "ann", "equity", datetime(2026, 11, 30, 1, 30, 0, 123_000)),  # noqa: DTZ001
        *(601, 5, 0.25, None, '["AAPL"]', '{"price": 5}', '["tech"]', True, False),
    )


@pytest.mark.parametrize("text", ["1e400", "nan", "007", "1" * 16, "=1", ".5", "", "0.5\n"])
def test_what_is_no_plain_number_stays_text(text: str) -> None:
    row = (*ROW[:6], text, *ROW[7:])
    assert cells(render_workbook(made_up(), [[row]]), "Sessions")[1][6] == text


def test_a_full_sheet_is_followed_by_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_MOST_ROWS", 4)
    rows = [(str(number), *ROW[1:]) for number in range(7)]
    content = render_workbook(made_up(), [rows[:5], rows[5:]])
    found = [cells(content, name) for name in opened(content).sheetnames if "Sessions" in name]
    assert [len(sheet) for sheet in found] == [4, 4, 2]
    assert [row[0] for sheet in found for row in sheet[1:]] == [row[0] for row in rows]


def test_headings_stay_in_sight_on_screen_and_on_paper() -> None:
    book = opened(render_workbook(made_up(), [[ROW]]))
    for sheet in book.worksheets[1:]:
        assert sheet.freeze_panes in ("A2", "B2")
        assert sheet.print_title_rows == "$1:$1"
    for sheet in book.worksheets:
        assert (sheet.page_setup.paperSize, sheet.page_setup.fitToHeight) == (9, 0)
        assert "Page &P of &N" in str(sheet.oddFooter.right.text)
    assert book["Time series"].auto_filter.ref == f"A1:J{book['Time series'].max_row}"


def test_charts_show_what_is_in_the_cells() -> None:
    report = made_up()
    book = opened(render_workbook(report))
    assert [len(sheet._charts) for sheet in book.worksheets] == [3, 0, 1, 1, 1, 1]
    drawn = "".join(text for name, text in parts(render_workbook(report)) if "charts/" in name)
    last = len(report.series["periods"]) + 1
    columns = re.findall(r"'Time series'!\$(\w)\$2:\$\w\$(\d+)", drawn)
    assert columns == [pair for column in "CDG" for pair in (("A", str(last)), (column, str(last)))]


def test_a_window_without_sessions_says_so() -> None:
    report = made_up(sessions=lambda _: 0, has_before=False)
    content = render_workbook(report)
    assert any("No session metrics" in str(row[0]) for row in cells(content, "Summary"))
    assert cells(content, "Assets")[1][0] == "none in this window"


def test_the_same_report_is_the_same_file() -> None:
    first, second = (render_workbook(made_up(), [[ROW]]) for _ in range(2))
    assert first == second
    assert opened(first).properties.created == datetime(2026, 11, 30, 12)  # noqa: DTZ001


def test_nothing_is_left_of_a_workbook_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupted() -> None:
        with WorkbookFile() as workbook:
            workbook.add_report(made_up())
            workbook.add_sessions([ROW] * 10)
            assert list(tmp_path.iterdir()) != []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    render_workbook(made_up(), [[ROW]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_rows_of_a_workbook_are_those_of_the_csv(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, assets_analyzed, tags, cache_hit_rate, abandoned) "
        "select gen_random_uuid(), name, 'equity', now() - row_number() over () * interval '1 s', "
        "7, jsonb_build_array(name), jsonb_build_array(name), left(name, 50), "
        "length(name) % 2 = 0 from unnest(%s::text[]) as name".replace("% 2", "%% 2"),
        [NAMES],
    )
    table = await analytics.export_session_metrics("csv")
    assert isinstance(table, str)
    expected = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
    content = await analytics.export_session_metrics(
        "xlsx", include_sessions=True, timezone="Asia/Kolkata"
    )
    assert isinstance(content, bytes)
    headings, *rows = cells(content, "Sessions")
    assert [heading.partition(" ")[0] for heading in headings] == list(SESSION_COLUMNS)
    assert len(rows) == len(expected) == len(NAMES)
    for row, session in zip(rows, expected, strict=True):
        for found, (name, text) in zip(row, session.items(), strict=True):
            assert same(found, text), name
    labels = {row[0]: row[1] for row in cells(content, "Summary")}
    assert labels["Sessions"] == len(NAMES)


def same(found: Any, text: str) -> bool:
    """Whether a cell holds what stands in the CSV."""
    match found:
        case None:
            return text == ""
        case bool():
            return text == str(found).lower()
        case datetime():
            moment = found.replace(tzinfo=ZoneInfo("Asia/Kolkata")).astimezone(UTC)
            exact = datetime.fromisoformat(text)
            return abs((moment - exact).total_seconds()) <= 0.001
        case int() | float():
            return Decimal(str(found)) == Decimal(text)
        case _:
            return bool(found == text)
