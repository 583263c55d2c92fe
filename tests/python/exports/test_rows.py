"""Rows as CSV, for programs and for spreadsheets."""

import csv
import io
from decimal import Decimal

import pytest
from hostile.strings import hostile_strings, is_storable

from fiml.exports.rows import CsvText, plain_cell, spreadsheet_safe_cell
from fiml.sessions.queries import SESSION_COLUMNS

STRINGS = [text for text in hostile_strings(2_000) if is_storable(text, 20_000)]
# What makes a spreadsheet compute, in some language or with some separator.
ACTIVE = "=+-@\t\r\n|;%\uff1d\uff0b\uff0d\uff20"


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def rows_of(texts: list[str]) -> list[list[str | None]]:
    width = len(SESSION_COLUMNS)
    padded = [*texts, *[""] * (-len(texts) % width)]
    return [list(padded[start : start + width]) for start in range(0, len(padded), width)]


def test_any_text_is_read_again_as_it_was() -> None:
    rows = rows_of(STRINGS)
    text = CsvText()
    assert read(text.header() + text.lines(rows)) == [list(SESSION_COLUMNS), *rows]


def test_what_is_safe_for_a_spreadsheet_is_read_again_as_it_was() -> None:
    rows = rows_of(STRINGS)
    text = CsvText(is_spreadsheet_safe=True)
    found = read(text.header() + text.lines(rows))
    assert [[plain_cell(cell) for cell in row] for row in found[1:]] == rows
    assert found[1:] != rows


def test_no_safe_cell_begins_as_a_formula_does() -> None:
    cells = [spreadsheet_safe_cell(text) or "" for text in STRINGS]
    assert {cell for cell in cells if cell[0] in ACTIVE} == {"-0", "-1"}
    for mark in ACTIVE:
        assert spreadsheet_safe_cell(f"{mark}1+1") == f"'{mark}1+1"
        assert spreadsheet_safe_cell(f" {mark}1+1") == f"' {mark}1+1"


@pytest.mark.parametrize(
    "text", ["analyst_001", "12.5", "0", "-5", "Ärger", "αβγ", '["=1+1"]', '{"-": 1}', "", None]
)
def test_what_no_spreadsheet_computes_stays_as_it_is(text: str | None) -> None:
    assert spreadsheet_safe_cell(text) == text


def test_a_number_that_can_call_something_is_none() -> None:
    assert spreadsheet_safe_cell("-1+cmd|' /C calc'!A0") == "'-1+cmd|' /C calc'!A0"
    assert Decimal(spreadsheet_safe_cell("-2147483648") or "") == -(2**31)
