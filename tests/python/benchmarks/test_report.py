"""The page and its table of bars, from results."""

from pathlib import Path
from typing import Any

from benchmarks.bars import verdicts
from benchmarks.report import page_of, sentence_of, write_sentence
from benchmarks.results import load_results, save_results
from benchmarks.scale import Scale

ROOT = Path(__file__).resolve().parents[3]
MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "memory_gb": 8,
    "system": "Linux x86_64",
    "versions": {"PostgreSQL": "15.0"},
    "shared_buffers": "128MB",
}


def cell(scope: str, days: int, reader: float, **times_reader: float) -> dict[str, Any]:
    figures = {"median_ms": 1.0, "p95_ms": 2.0, "rounds": 9}
    return {
        "scope": scope,
        "days": days,
        "rows": 10,
        "declined": {},
        "contenders": {
            "floor": {**figures, "ratio": 1.0},
            "reader": {**figures, "ratio": reader},
            **{
                name: {**figures, "ratio": 1.0, "times_reader": times}
                for name, times in times_reader.items()
            },
        },
    }


def results(**sections: Any) -> dict[str, Any]:
    return {
        "measured_on": "2026-11-23",
        "machine": MACHINE,
        "load_average": 1.5,
        "sections": sections,
    }


def reads(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"answers_compared": 4, "missing": {}, "cells": list(cells)}


def test_a_bar_is_met_at_its_figure_and_missed_above_it() -> None:
    found = {
        Scale(100_000): results(
            reads=reads(cell("platform", 1, 5.0), cell("type", 90, 6.0), cell("user", 1, 6.01))
        ),
        Scale(5_000_000): results(
            reads=reads(cell("platform", 30, 8.01, duckdb=50.0, statement=1799.0))
        ),
    }
    met = {(one.what, one.scale): one.is_met for one in verdicts(found)}
    assert met["platform and one type, slowest window", "100k"]
    assert not met["platform and one type, slowest window", "5m"]
    assert not met["a user with up to 100 sessions in the window", "100k"]
    assert met["ahead of DuckDB, platform, 30 days", "5m"]
    assert not met["ahead of one SQL statement, platform, 30 days", "5m"]


def test_growth_is_judged_over_scales_and_over_windows() -> None:
    found = {
        Scale(100_000): results(reads=reads(cell("platform", 1, 4.0), cell("platform", 90, 4.9))),
        Scale(10_000_000): results(
            reads=reads(cell("platform", 1, 8.0), cell("platform", 90, 8.5))
        ),
    }
    met = {(one.what, one.scale): one.is_met for one in verdicts(found)}
    assert met["growth with the number of sessions", "100k to 10m"]
    assert not met["growth from 1 to 90 days", "100k"]
    assert met["growth from 1 to 90 days", "10m"]


def test_windows_that_were_measured_in_turns_say_more_than_those_that_were_not() -> None:
    of_one_scope = [
        {
            "scope": "platform",
            "days": [1, 90],
            "windows": [
                {"median_ms": 1.0, "p95_ms": 2.0, "rounds": 9, "ratio": 1.0},
                {"median_ms": 1.1, "p95_ms": 2.0, "rounds": 9, "ratio": 1.1},
            ],
        }
    ]
    found = {
        Scale(100_000): results(
            reads=reads(cell("platform", 1, 4.0), cell("platform", 90, 4.9)), windows=of_one_scope
        )
    }
    met = {(one.what, one.scale): one.is_met for one in verdicts(found)}
    assert met["growth from 1 to 90 days", "100k"]
    assert "| everybody | 1 (2), 1.00 x | 1.1 (2), 1.10 x |" in page_of(found, has_chart=False)


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert verdicts({Scale(100_000): results()}) == []


def test_results_of_another_machine_are_not_mixed_with_this_ones(tmp_path: Path) -> None:
    scale = Scale(1_000)
    save_results(tmp_path, scale, MACHINE, {"disk": {"tables": [], "schemas": {}}})
    save_results(tmp_path, scale, MACHINE, {"reads": reads()})
    assert set(load_results(tmp_path)[scale]["sections"]) == {"disk", "reads"}
    save_results(tmp_path, scale, {**MACHINE, "cores": 64}, {"reads": reads()})
    assert set(load_results(tmp_path)[scale]["sections"]) == {"reads"}


def test_the_page_names_machine_versions_bars_and_who_was_missing() -> None:
    measured = {**reads(cell("platform", 30, 3.0)), "missing": {"chdb": "chdb is not installed"}}
    page = page_of({Scale(100_000): results(reads=measured)}, has_chart=True)
    assert "a processor, 2 cores, 8 GB" in page
    assert "PostgreSQL 15.0" in page
    assert "![" in page
    assert "| platform and one type, slowest window | 100k | <= 6 x | 3 x | yes |" in page
    assert "Not measured: chdb (chdb is not installed)." in page


def test_the_page_in_the_documents_is_the_one_that_its_results_give() -> None:
    documents = ROOT / "docs"
    found = load_results(documents / "benchmarks")
    assert found
    page = (documents / "benchmarks.md").read_text(encoding="utf-8")
    assert page == page_of(found, has_chart=(documents / "benchmarks.png").exists())


def test_the_sentence_is_of_the_largest_scale_that_was_measured_against_the_others() -> None:
    rivals = {"duckdb": 48.4, "marts": 61.0, "statement": 1_623.0}
    found = {
        Scale(1_000_000): results(reads=reads(cell("platform", 30, 5.0, duckdb=9.0))),
        Scale(100_000): results(reads=reads(cell("platform", 30, 4.04, **rivals))),
    }
    sentence = " ".join(sentence_of(found).split())
    assert "30 days of 100,000 sessions takes 1.0 ms here." in sentence
    assert "That is 4.0 times as long as `SELECT 1` through the same pool takes." in sentence
    assert "It is 48 times faster than DuckDB over tables of its own, 61 times faster" in sentence
    assert "and 1,623 times faster than one SQL statement over the raw rows" in sentence
    assert sentence_of({Scale(100_000): results(reads=reads(cell("platform", 30, 4.0)))}) == ""


def test_the_sentence_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    rivals = {"duckdb": 2.0, "marts": 3.0, "statement": 4.0}
    found = {Scale(100_000): results(reads=reads(cell("platform", 30, 4.0, **rivals)))}
    readme = tmp_path / "README.md"
    assert not write_sentence(found, readme)
    readme.write_text("before\n", encoding="utf-8")
    assert not write_sentence(found, readme)
    assert readme.read_text(encoding="utf-8") == "before\n"
    marked = (
        "before\n<!-- measured: written by `make bench` -->\n{}\n<!-- end of measured -->\nafter\n"
    )
    readme.write_text(marked.format("old"), encoding="utf-8")
    assert write_sentence(found, readme)
    assert readme.read_text(encoding="utf-8") == marked.format(sentence_of(found))


def test_the_sentence_in_the_readme_is_the_one_that_its_results_give() -> None:
    sentence = sentence_of(load_results(ROOT / "docs" / "benchmarks"))
    assert sentence
    assert sentence in (ROOT / "README.md").read_text(encoding="utf-8")
