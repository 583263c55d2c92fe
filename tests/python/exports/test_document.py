"""Reports as PDF, read again by another library."""

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from exports.reports import NOON, made_up
from hostile.strings import hostile_strings, is_storable
from pypdf import PdfReader

from fiml.exports.document import render_report
from fiml.exports.glyphs import visible
from fiml.exports.report import FIGURES
from fiml.exports.wording import moment_of, said
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.periods import Grain

Connection = psycopg.Connection[tuple[Any, ...]]

NAMES = [text for text in hostile_strings(400) if is_storable(text)]
GREEK, CYRILLIC, HEBREW = "Ξεσκεπάζω τὴν ψυχοφθόρα", "Съешь ещё этих мягких булок", "עטלף אבק"
LATIN = "Příliš žluťoučký kůň, ğüşiöç, Đặng Văn Lâm, ﬁne"
POLISH = "Zażółć gęślą jaźń"


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def squeezed(text: str) -> str:
    """Without spaces: where they are in a page is a matter of places, not of text."""
    return re.sub(r"\s", "", text)


def text_of(pdf: bytes) -> str:
    return squeezed("".join(pages(pdf)))


def test_it_has_two_or_three_numbered_pages_with_title_period_and_time() -> None:
    report = made_up(user_id="analyst_001")
    found = pages(render_report(report, title="Weekly report"))
    assert len(found) == 3
    for number, page in enumerate(found, start=1):
        assert squeezed(f"{number} / {len(found)}") in squeezed(page)
        assert squeezed(f"As of {moment_of(report.as_of)} UTC") in squeezed(page)
        assert "Weeklyreport" in squeezed(page)
        assert squeezed("31 October 2026, 12:00 to 30 November 2026, 12:00") in squeezed(page)
    assert "analyst_001" in found[0]


def test_every_figure_is_there_with_its_change() -> None:
    report = made_up()
    first = squeezed(pages(render_report(report))[0])
    assert report.before is not None
    for figure in FIGURES:
        assert squeezed(figure.label) in first
        assert squeezed(said(report.figures[figure.key], figure.unit)) in first
    total, before = report.figures["total_sessions"], report.before["total_sessions"]
    assert f"+{(total - before) / before * 100:.1f}%before:{before}" in first
    assert squeezed("Sessions, by day") in first


def test_every_period_and_every_name_with_its_count_are_there() -> None:
    counted = [(name, 1_234_567 - index) for index, name in enumerate("ABCDEFGHIJKLM")]
    report = made_up(query_types=counted)
    _, second, third = pages(render_report(report))
    for name, count in counted[:10]:
        assert f"{name}{count:,}" in squeezed(second)
    assert "Kt" not in squeezed(second)
    assert squeezed("3 more, 3,703,668 in all") in squeezed(second)
    rows = squeezed(third)
    for period in report.series["periods"]:
        start = datetime.fromisoformat(period["period_start"])
        cells = [
            f"{start:%a}{start.day}{start:%b%Y}",
            said(period["total_sessions"], FIGURES[0].unit),
            said(period["total_queries"], FIGURES[1].unit),
        ]
        assert "".join(cells) in rows


@pytest.mark.parametrize("name", [GREEK, CYRILLIC, HEBREW, LATIN, POLISH])
def test_names_of_many_scripts_are_readable(name: str) -> None:
    assert visible(name) == name
    found = text_of(render_report(made_up(user_id=name, assets=[(name, 7)])))
    # Right to left, a reader of text gives words in the order in which they stand.
    for word in name.replace(",", " ").split():
        assert word in found or word[::-1] in found or word.replace("ﬁ", "fi") in found


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rocket \U0001f680", "rocket \ufffd"),
        ("\u65e5\u672c", "\ufffd\ufffd"),
        ("\u202eann", "\ufffdann"),
        ("a\x00\x1b[2J\n\u2028b", "a\ufffd\ufffd[2J\ufffd\ufffdb"),
        ("an\u200bn", "an\ufffdn"),
        ("\u2764\ufe0f\u3164", "\u2764\ufffd\ufffd"),
        (" ann  ", "\u2423ann\u2423\u2423"),
        (" ", "\u2423"),
        ("e\u0301\u0302\u0303\u0304x", "e\u0301\u0302\ufffd\ufffdx"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("\u0301" * 255, "\u0301\u0301" + "\ufffd" * 57 + "…"),
    ],
)
def test_what_cannot_be_seen_is_replaced_by_what_can(name: str, shown: str) -> None:
    assert visible(name) == shown
    assert squeezed(shown) in text_of(render_report(made_up(user_id=name)))


def test_a_name_that_has_no_room_beside_its_count_is_cut_and_shows_it() -> None:
    second = squeezed(pages(render_report(made_up(tags=[("x" * 50, 7)])))[1])
    assert re.search("[^x]x{30,45}…7", second)


@pytest.mark.parametrize(
    "name",
    [
        "#panic()",
        '#import "@preview/cetz:0.3.0"',
        "*bold* _it_ $x^2$ `raw` <label> @ref",
        '")] #read("/etc/passwd")',
        "= heading",
        "\\u{41} \\ // comment /* */",
        "</text><script>x</script>",
        "{{ x }} {% y %}",
        "https://example.com/x",
    ],
)
def test_nothing_in_a_name_is_read_as_markup(name: str) -> None:
    pdf = render_report(made_up(user_id=name, session_types=[(name, 7)]), title=name)
    for page in pages(pdf)[:2]:
        assert squeezed(name) in squeezed(page)
    for page in PdfReader(io.BytesIO(pdf)).pages:
        assert "/Annots" not in page


@pytest.mark.parametrize("start", range(0, len(NAMES), 10))
def test_any_name_can_stand_in_a_report(start: int) -> None:
    names = NAMES[start : start + 10]
    counted = [(name, 9) for name in names]
    found = text_of(render_report(made_up(user_id=names[0], assets=counted, tags=counted)))
    for name in names:
        # Of letters that are composed, or written from right to left, the order differs.
        if name.isascii():
            assert squeezed(visible(name))[:20] in found


def test_a_long_table_goes_on_over_pages_and_ends_somewhere() -> None:
    found = pages(render_report(made_up(days=150, grain=Grain.HOUR)))
    assert squeezed("The last 120 of 3,600 hours") in squeezed(found[2])
    assert 4 <= len(found) <= 6
    for page in found[2:]:
        assert squeezed("Hour Sessions Queries") in squeezed(page)


@pytest.mark.parametrize("grain", list(Grain))
def test_every_grain_has_its_labels(grain: Grain) -> None:
    found = text_of(render_report(made_up(days=3, grain=grain)))
    assert f"Every{grain}" in found
    assert f"Sessions,by{grain}" in found


def test_a_window_without_sessions_says_so() -> None:
    found = text_of(render_report(made_up(sessions=lambda _: 0, has_before=False)))
    assert squeezed("No session metrics available yet.") in found
    assert found.count("noneinthiswindow") == 4
    assert squeezed("Nothing is compared with") in found


def test_a_window_without_length_has_its_pages() -> None:
    report = made_up(sessions=lambda _: 0, has_before=False)
    report = replace(report, series={**report.series, "periods": []})
    assert len(pages(render_report(report))) == 3


def test_a_closed_window_shows_no_active_sessions() -> None:
    assert "Activenow\N{EN DASH}" in text_of(render_report(made_up(is_open=False)))


def test_the_same_report_is_the_same_file() -> None:
    first, second = (render_report(made_up()) for _ in range(2))
    assert first == second
    metadata = PdfReader(io.BytesIO(first)).metadata
    assert metadata is not None
    assert metadata.title == "Session analytics"
    assert metadata.creation_date == NOON.astimezone(UTC)


def test_it_can_be_read_aloud() -> None:
    """PDF/UA-1: tagged, with its language, its headings, and a description of each chart."""
    reader = PdfReader(io.BytesIO(render_report(made_up())))
    root = reader.trailer["/Root"]
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    described = re.findall(r"Sessions, by day, from [\d,]+ to [\d,]+\.", str(_tree(root)))
    assert described


def _tree(node: Any, depth: int = 0) -> list[str]:
    node = node.get_object() if hasattr(node, "get_object") else node
    found: list[str] = []
    if depth < 12 and isinstance(node, dict):
        if "/Alt" in node:
            found.append(str(node["/Alt"]))
        for key in ("/StructTreeRoot", "/K"):
            if key in node:
                found += _tree(node[key], depth + 1)
    elif isinstance(node, list):
        for each in node:
            found += _tree(each, depth + 1)
    return found


@pytest.mark.anyio
async def test_the_report_of_a_database_says_what_the_api_says(
    analytics: SessionAnalytics, database: Connection
) -> None:
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, total_queries, assets_analyzed) select gen_random_uuid(), 'ann', "
        "'equity', now() - number * interval '1 h', 100, 3, '[\"ΑΛΦΑ\"]' "
        "from generate_series(1, 1500) as number"
    )
    pdf = await analytics.export_session_metrics("pdf", "ann", days=21)
    assert isinstance(pdf, bytes)
    found = text_of(pdf)
    stats = await analytics.get_session_stats("ann", days=21)
    assert f"Sessions{stats['total_sessions']:,}" in found
    assert f"Queries{stats['total_queries']:,}" in found
    assert f"ΑΛΦΑ{stats['top_assets'][0]['count']:,}" in found
