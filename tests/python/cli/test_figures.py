"""The commands that show figures: `stats`, `timeseries`, and `export` of the same."""

import asyncio
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli.outcomes import Connection, Run, add_expired, failed, succeeded

from fiml.database import Database
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.settings import Settings


def library_answer(conninfo: str, *arguments: Any) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with Database(Settings(conninfo=conninfo)) as database:
            return await SessionAnalytics(database).get_session_stats(*arguments)

    return asyncio.run(read())


def test_stats_as_json_is_exactly_the_documented_dictionary(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 3, "AAPL", "MSFT")
    run("archive", conninfo=migrated_database)
    arguments = ("--user", "analyst_001", "--type", "equity", "--days", "7")
    told = succeeded(run("stats", "--json", *arguments, conninfo=migrated_database))
    expected = library_answer(migrated_database, "analyst_001", "equity", 7)
    assert json.loads(told) == expected
    assert list(json.loads(told)) == list(expected)
    assert expected["total_sessions"] == 3
    assert "meta" in json.loads(
        succeeded(run("stats", "--json", "--meta", conninfo=migrated_database))
    )


def test_stats_is_a_picture_of_all_figures(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1234, "AAPL")
    source.execute(
        "insert into sessions (id, type, expires_at) "
        "values (gen_random_uuid(), 'macro', now() + interval '1 day')"
    )
    run("archive", conninfo=migrated_database)
    told = " ".join(succeeded(run("stats", conninfo=migrated_database)).split())
    for shown in (
        "everybody · all types · last 30 days",
        "1,234 sessions",
        "1 active now",
        "1,234 archived",
        "2,468 queries",
        "2.00 per session",
        "24 h 00 min on average",
        "0.0 % abandoned",
        "Top assets",
        "AAPL 1,234 ████",
        "Popular tags",
        "tech 1,234",
        "Query types",
        "price 1,234",
        "Session types",
        "equity 1,234",
    ):
        assert shown in told
    assert "watermark" in succeeded(run("stats", "--meta", conninfo=migrated_database))


def test_stats_without_sessions_says_so(run: Run, migrated_database: str) -> None:
    told = succeeded(run("stats", "--days", "1", conninfo=migrated_database))
    assert "last day" in told
    assert NO_METRICS_MESSAGE in told


@pytest.mark.parametrize("columns", ["30", "40", "60", "80", "100", "120", "160"])
def test_a_time_series_cuts_no_figure_however_narrow_the_terminal(
    run: Run, migrated_database: str, source: Connection, columns: str
) -> None:
    source.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds, "
        "total_queries, abandoned) select gen_random_uuid(), 'equity', now() - interval '1 minute',"
        " 1000000, 2000000000, true from generate_series(1, 1200)"
    )
    command = ("timeseries", "--days", "3")
    told = succeeded(run(*command, conninfo=migrated_database, COLUMNS=columns))
    assert "…" not in told
    assert "1,200" in told
    assert max(map(len, told.splitlines())) <= int(columns)
    headings = ["sessions", "archived", "queries", "q/session", "duration", "abandoned"]
    left_out = re.search(r"Left out to fit: (.*)\. A wider", " ".join(told.split()))
    missing = left_out[1].split(", ") if left_out else []
    table, _, _ = told.partition("Left out")
    assert [name for name in headings if name in table.split()] == [
        name for name in headings if name not in missing
    ]
    assert bool(missing) == (int(columns) < 100)
    # Below that it goes on in a second line.
    if int(columns) >= 40:
        assert ("2,400,000,000,000" in told) == ("queries" not in missing)


@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
def test_a_time_series_fits_80_columns(
    run: Run, migrated_database: str, source: Connection, grain: str
) -> None:
    add_expired(source, 2_500)
    run("archive", conninfo=migrated_database)
    command = ("timeseries", "--grain", grain, "--days", "3")
    told = succeeded(run(*command, conninfo=migrated_database, COLUMNS="80"))
    headings = told.splitlines()[2].split()
    assert headings[-6:] == [
        *("sessions", "archived", "queries", "q/session", "duration", "abandoned"),
    ]
    assert "…" not in told
    assert "2,500" in told
    assert max(map(len, told.splitlines())) <= 80


def test_names_cannot_steer_the_terminal(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1, "[bold]X[/bold]", "[/nothing]", "\x1b[2Jgone", "日本")
    run("archive", conninfo=migrated_database)
    told = succeeded(
        run("stats", "--user", "analyst_001", conninfo=migrated_database, FORCE_COLOR="1")
    )
    for shown in ("[bold]X[/bold]", "[/nothing]", "�[2Jgone", "日本"):
        assert shown in told
    assert "\x1b[2J" not in told


def test_colours_are_for_terminals_and_never_with_no_color(
    run: Run, migrated_database: str
) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    assert not colour.search(succeeded(run("stats", conninfo=migrated_database)))
    coloured = succeeded(
        run("stats", conninfo=migrated_database, FORCE_COLOR="1", TERM="xterm-256color")
    )
    assert colour.search(coloured)
    plain = run(
        "stats", conninfo=migrated_database, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color"
    )
    assert not colour.search(succeeded(plain))


def test_export_writes_json_and_csv_to_standard_output_or_a_file(
    run: Run, migrated_database: str, source: Connection, tmp_path: Path
) -> None:
    add_expired(source, 2, "AAPL", 'quo"te,')
    run("archive", conninfo=migrated_database)
    assert json.loads(succeeded(run("export", conninfo=migrated_database))) == library_answer(
        migrated_database
    )
    printed = run("export", "--format", "csv", conninfo=migrated_database).stdout_bytes
    assert printed.count(b"\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(printed.decode(), newline="")))
    assert [json.loads(row["assets_analyzed"]) for row in rows] == [["AAPL", 'quo"te,']] * 2
    file = tmp_path / "metrics.csv"
    result = run("export", "--format", "csv", "--output", str(file), conninfo=migrated_database)
    assert succeeded(result) == ""
    assert file.read_bytes() == printed


def test_export_refuses_other_formats_and_unwritable_files(
    run: Run, migrated_database: str, tmp_path: Path
) -> None:
    told = failed(run("export", "--format", "xml", conninfo=migrated_database), exit_code=2)
    assert told.startswith("Unsupported export format: 'xml'")
    missing = str(tmp_path / "missing" / "file")
    told = failed(run("export", "--output", missing, conninfo=migrated_database))
    assert told == f"cannot write {missing}: No such file or directory"
