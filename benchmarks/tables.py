"""The figures as tables: plain rows, which the console and the page show each in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.bars import verdicts
from benchmarks.results import Results
from benchmarks.scale import Scale

__all__ = ["TITLES", "Table", "bars_table", "section_tables"]

TITLES: Final = {
    "floor": "`SELECT 1`, same pool",
    "reader": "this reader",
    "reader_cold": "this reader, nothing cached",
    "reader_now": "this reader, `get_session_stats` at the present",
    "marts": "daily marts, summed",
    "statement": "one SQL statement over the raw rows",
    "orm": "rows through an ORM, counted in Python",
    "duckdb": "DuckDB, native tables",
    "clickhouse": "embedded ClickHouse (chdb), native tables",
}
_SCOPES: Final = {
    "platform": "everybody",
    "type": "one session type",
    "user": "a user with up to 100 sessions in the window",
    "heaviest": "the heaviest user",
}
_CHANGES: Final = {
    "new_1": "1 new session",
    "new_20": "20 new sessions",
    "new_1000": "1 000 new sessions",
    "new_100000": "100 000 new sessions",
    "late_1": "1 session, 90 days late",
    "erased_1000": "erasure of 1 000 sessions over 180 days",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table; all columns but the first hold figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def bars_table(results: Mapping[Scale, Results]) -> Table:
    """Every bar that something was measured for."""
    return Table(
        "Bars",
        ("what", "sessions", "bar", "measured", "met"),
        tuple(
            (one.what, one.scale, one.bar, one.found, "yes" if one.is_met else "**no**")
            for one in verdicts(results)
        ),
    )


def section_tables(name: str, section: Any) -> list[Table]:
    """The tables of one section's results."""
    return list(_MAKERS[name](section))


def milliseconds(value: float) -> str:
    """Three figures are more than the machine repeats."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} x" if value >= 100 else f"{value:.1f} x"


def _timed(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "-"
    ms, p95 = milliseconds(figures["median_ms"]), milliseconds(figures["p95_ms"])
    return f"{ms} ({p95}), {_times(figures.get('ratio'))}"


def _reads(reads: Mapping[str, Any]) -> Sequence[Table]:
    cells = {(cell["scope"], cell["days"]): cell for cell in reads["cells"]}
    days = sorted({key[1] for key in cells})
    tables = []
    for scope in dict.fromkeys(key[0] for key in cells):
        of_scope = {number: cells[scope, number] for number in days if (scope, number) in cells}
        names = [
            name for name in TITLES if any(name in cell["contenders"] for cell in of_scope.values())
        ]
        rows = [("sessions in the window", *(f"{cell['rows']:,}" for cell in of_scope.values()))]
        rows += [
            (TITLES[name], *(_timed(cell["contenders"].get(name)) for cell in of_scope.values()))
            for name in names
        ]
        columns = (f"median ms (p95), x `SELECT 1`: {_SCOPES[scope]}",)
        tables.append(
            Table(
                f"Reads: {_SCOPES[scope]}",
                (*columns, *(f"{number} day{'s' * (number > 1)}" for number in of_scope)),
                tuple(rows),
            )
        )
    return tables


def _windows(windows: Sequence[Mapping[str, Any]]) -> Sequence[Table]:
    if not windows:
        return []
    days = windows[0]["days"]
    return [
        Table(
            "Windows in turns (median ms (p95), x the shortest)",
            ("the reader", *(f"{number} day{'s' * (number > 1)}" for number in days)),
            tuple(
                (_SCOPES[row["scope"]], *(_windowed(window) for window in row["windows"]))
                for row in windows
            ),
        )
    ]


def _windowed(window: Mapping[str, Any]) -> str:
    ms, p95 = milliseconds(window["median_ms"]), milliseconds(window["p95_ms"])
    return f"{ms} ({p95}), {window['ratio']:.2f} x"


def _load(load: Mapping[str, Any]) -> Sequence[Table]:
    return _facts("History")(load)


def _facts(title: str) -> Callable[[Mapping[str, Any]], Sequence[Table]]:
    def table(facts: Mapping[str, Any]) -> Sequence[Table]:
        rows = tuple(
            (name.replace("_", " "), _fact(value))
            for name, value in facts.items()
            if value is not None
        )
        return [Table(title, (title.lower(), ""), rows)]

    return table


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _disk(disk: Mapping[str, Any]) -> Sequence[Table]:
    def megabytes(size: int) -> str:
        return f"{size / 2**20:,.1f}"

    rows = [
        (table["table"], megabytes(table["data_bytes"]), megabytes(table["index_bytes"]))
        for table in disk["tables"]
        if table["data_bytes"] + table["index_bytes"] >= 2**18
    ]
    total = [(f"schema {name}", megabytes(size), "") for name, size in disk["schemas"].items()]
    return [Table("Disk", ("MB", "rows", "indexes"), tuple(rows + total))]


def _process(process: Mapping[str, Any]) -> Sequence[Table]:
    rows = (
        ("import of fiml.sessions.analytics, ms", milliseconds(process["import"]["median_ms"])),
        ("import of psycopg alone, ms", milliseconds(process["import_of_driver"]["median_ms"])),
        (
            "imported though it must not be",
            ", ".join(process["imports_that_it_must_not"]) or "nothing",
        ),
        ("peak memory of a process that only reads, MB", f"{process['reading_peak_mb']:g}"),
    )
    return [Table("The reader's process", ("the reader's process", ""), rows)]


def _callers(rows: Sequence[Mapping[str, Any]]) -> Sequence[Table]:
    return [
        Table(
            "Concurrent callers",
            (
                "callers (processes)",
                "`SELECT 1`/s",
                "p50, p99 ms",
                "answers/s",
                "p50, p99 ms",
                "p99 of p50",
                "of `SELECT 1`",
            ),
            tuple(
                (
                    f"{row['clients']} ({row['processes']})",
                    f"{row['floor']['per_second']:,.0f}",
                    f"{row['floor']['p50_ms']:.1f}, {row['floor']['p99_ms']:.1f}",
                    f"{row['reader']['per_second']:,.0f}",
                    f"{row['reader']['p50_ms']:.1f}, {row['reader']['p99_ms']:.1f}",
                    f"{row['p99_of_p50']:.1f} x",
                    f"{row['share_of_floor']:.1%}",
                )
                for row in rows
            ),
        )
    ]


def _folding(rows: Mapping[str, Mapping[str, Any]]) -> Sequence[Table]:
    return [
        Table(
            "Folds",
            (
                "fold of",
                "median ms (p95), x `SELECT 1`",
                "a fold of nothing, ms",
                "its writing, ms",
            ),
            tuple(
                (
                    _CHANGES.get(name, name),
                    _timed(row["fold"]),
                    milliseconds(row["fold_of_nothing"]["median_ms"]),
                    milliseconds(row["write_ms"]),
                )
                for name, row in rows.items()
            ),
        )
    ]


def _unseen(cells: Sequence[Mapping[str, Any]]) -> Sequence[Table]:
    return [
        Table(
            "Unseen feed rows",
            ("unseen rows", "scope", "median ms (p95), x `SELECT 1`", "us for each"),
            tuple(
                (
                    f"{cell['unseen']:,}",
                    _SCOPES[cell["scope"]],
                    _timed(cell),
                    f"{cell['us_per_row']:g}" if "us_per_row" in cell else "",
                )
                for cell in cells
            ),
        )
    ]


def _busy(busy: Mapping[str, Any]) -> Sequence[Table]:
    return [
        Table(
            "Reads while builds loop (30 days; median ms (p95), x `SELECT 1`)",
            ("beside", "rounds of it", "`SELECT 1`", "everybody", "one session type"),
            tuple(
                (
                    name,
                    str(phase["rounds_of_work"]),
                    *(_timed(phase["reads"][key]) for key in ("floor", "platform", "type")),
                )
                for name, phase in busy.items()
            ),
        )
    ]


def _live(live: Mapping[str, Any]) -> Sequence[Table]:
    names = [name for name in ("floor", *_SCOPES) if name in live["quiet"]]
    return [
        Table(
            f"Reads beside {live['sessions_per_second']:.0f} sessions a second for "
            f"{live['seconds']:.0f} s, folded every second; "
            f"{live['answers_checked']} answers compared, all exact",
            ("30 days", "quiet: median ms (p95), x `SELECT 1`", "meanwhile"),
            tuple(
                (
                    {"floor": TITLES["floor"], **_SCOPES}[name],
                    _timed(live["quiet"][name]),
                    _timed(live["live"][name]),
                )
                for name in names
            ),
        )
    ]


_MAKERS: Final[dict[str, Callable[[Any], Sequence[Table]]]] = {
    "load": _load,
    "reads": _reads,
    "windows": _windows,
    "disk": _disk,
    "process": _process,
    "callers": _callers,
    "folding": _folding,
    "unseen": _unseen,
    "busy": _busy,
    "live": _live,
    "archival": _facts("Archival"),
    "rebuild": _facts("Rebuild from scratch"),
}
