"""docs/benchmarks.md and its chart, from the results of all scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import Any, Final

from benchmarks.chart import write_chart
from benchmarks.results import Results
from benchmarks.scale import Scale
from benchmarks.tables import Table, bars_table, section_tables

__all__ = ["page_of", "sentence_of", "write_report", "write_sentence"]

_CHART: Final = "benchmarks.png"
_BEGIN: Final = "<!-- measured: written by `make bench` -->\n"
_END: Final = "\n<!-- end of measured -->"
_LINE: Final = 105
_RIVALS: Final = ("duckdb", "marts", "statement")

_HEAD: Final = """\
# Benchmarks

Written by `make bench`, from the files in [benchmarks](benchmarks). Every figure is a median of one
run on one machine, and every ratio was taken inside that run, with both sides in turns: read the
ratios, the milliseconds are this machine's.
"""

_HOW: Final = """\
## How it was measured

- The history is 180 days in time order: 20 000 users, 5 session types, 5 000 symbols, 500 tags
  and 8 query types, few of them often and many seldom (Zipf), and 3 active sessions for every 1
  000 archived. It is drawn by hashes of the sessions' numbers, so it is the same every time; a
  session's query history is left empty where it is archived already.
- Before anything is timed, every contender answers every question, at random instants of the last
  day, and all answers must be equal: eleven figures, their order and their types.
- Then the contenders take turns, in a new order each round, at instants that pass as they do for an
  application, near the end of the history: sessions are at both ends of a window. "Nothing cached"
  is the reader that forgets what it kept before each answer. Slow ones take part in fewer rounds.
  "x `SELECT 1`" compares medians of the rounds that both took part in; `SELECT 1` goes through the
  reader's own pool and deadline.
- "A user with up to 100 sessions" has as many in each of the windows. "The heaviest user" has the
  most of all.
- Rows through an ORM are asked only where there are at most 600 000 in the window. DuckDB and
  ClickHouse read tables of their own, loaded once: nothing keeps those up to date. The SQL
  statement uses the indexes that the migrations make.
- Concurrent callers are in processes of their own, with a pool of 10 connections each: 50 % of
  the questions are about one user (drawn evenly), 30 % about one type, 20 % about everybody, over
  1, 7, 30 and 90 days.
- Archival is measured on sessions with five queries each, with the default batches and
  connections. The bare tables of its floor have neither indexes nor constraints; the indexed ones
  have those of the real tables, and no triggers. Both are given finished rows, by one connection.
- A rebuild's memory is what the backend that makes the serving layer has for itself (RssAnon):
  shared buffers are not in it, nor is the backend that makes the marts meanwhile.
"""


def write_report(results: Mapping[Scale, Results], page: Path) -> list[Path]:
    """Write the page and, where matplotlib is installed, the chart; return what was written."""
    page.parent.mkdir(parents=True, exist_ok=True)
    chart = page.with_name(_CHART)
    written = [page]
    if write_chart(results, chart):
        written.append(chart)
    page.write_text(page_of(results, has_chart=chart.exists()), encoding="utf-8")
    return written


def write_sentence(results: Mapping[Scale, Results], readme: Path) -> bool:
    """Put the sentence between its marks in a file; False where there are none, or no figures."""
    sentence = sentence_of(results)
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (sentence and begin and end):
        return False
    readme.write_text(f"{before}{begin}{sentence}{end}{after}", encoding="utf-8")
    return True


def sentence_of(results: Mapping[Scale, Results]) -> str:
    """The figures in a few words, of the largest scale that has all of them; empty without one."""
    for scale, found in sorted(results.items(), reverse=True):
        for cell in found["sections"].get("reads", {"cells": []})["cells"]:
            contenders = cell["contenders"]
            ahead = {
                name: f"{contenders[name]['times_reader']:,.0f} times"
                for name in _RIVALS
                if "times_reader" in contenders.get(name, {})
            }
            if (cell["scope"], cell["days"]) == ("platform", 30) and len(ahead) == len(_RIVALS):
                reader = contenders["reader"]
                return fill(
                    f"An answer about the last 30 days of {scale.sessions:,} sessions takes "
                    f"{reader['median_ms']:.1f} ms here. That is {reader['ratio']:.1f} times as "
                    "long as `SELECT 1` through the same pool takes. It is "
                    f"{ahead['duckdb']} faster than DuckDB over tables of its own, "
                    f"{ahead['marts']} faster than summing daily marts, and {ahead['statement']} "
                    "faster than one SQL statement over the raw rows with good indexes.",
                    _LINE,
                )
    return ""


def page_of(results: Mapping[Scale, Results], *, has_chart: bool) -> str:
    """The page as Markdown."""
    return "\n".join(_blocks(results, has_chart=has_chart)).rstrip() + "\n"


def _blocks(results: Mapping[Scale, Results], *, has_chart: bool) -> Iterator[str]:
    yield _HEAD
    if has_chart:
        yield f"![Cost of a read against scale and window]({_CHART})\n"
    bars = bars_table(results)
    if bars.rows:
        yield "## Bars\n"
        yield _markdown(bars)
    for scale, found in results.items():
        yield f"## {scale} sessions\n"
        yield _circumstances(found)
        for name, section in found["sections"].items():
            for table in section_tables(name, section):
                yield f"### {table.title}\n"
                yield _markdown(table)
            if name == "reads":
                yield _remarks(section)
    yield _HOW


def _circumstances(found: Results) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"Measured on {found['measured_on']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['system']}; {versions}; "
        f"shared_buffers {machine['shared_buffers']}; load average at the end "
        f"{found['load_average']:g}.\n"
    )


def _remarks(reads: Mapping[str, Any]) -> str:
    said = [f"{reads['answers_compared']} answers were compared; all were equal."]
    said += [f"Not measured: {name} ({why})." for name, why in reads["missing"].items()]
    declined = {
        f"{name} for {cell['scope']}, {cell['days']} days ({why})"
        for cell in reads["cells"]
        for name, why in cell["declined"].items()
    }
    said += [f"Not asked: {'; '.join(sorted(declined))}."] if declined else []
    return " ".join(said) + "\n"


def _markdown(table: Table) -> str:
    lines = [
        _line(table.columns),
        "|".join(["", "---", *("---:" for _ in table.columns[1:]), ""]),
        *map(_line, table.rows),
    ]
    return "\n".join(lines) + "\n"


def _line(values: tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |"
