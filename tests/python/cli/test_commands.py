"""Every command, called as a person calls it: output, errors, exit codes."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result

from fiml.cli import main
from fiml.database import Database
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.sessions.migrations import MIGRATIONS
from fiml.settings import SETTINGS, Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

Run = Callable[..., Result]
Connection = psycopg.Connection[tuple[Any, ...]]

NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"
EXPIRED = """
insert into sessions (
    id, user_id, type, created_at, expires_at, assets, tags, query_history, total_queries
)
select
    gen_random_uuid(), 'analyst_001', 'equity', now() - interval '2 days', now() - interval '1 day',
    %s::jsonb, '["tech"]', '[{"query_type": "price"}]', 2
from generate_series(1, %s)
"""


def add_expired(source: Connection, count: int, *assets: str) -> None:
    source.execute(EXPIRED, [json.dumps(assets or ["AAPL"]), count])


def failed(result: Result, exit_code: int = 1) -> str:
    """What a failure told: one or two sentences on stderr, and nothing on stdout."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    told = result.stderr.splitlines()[-1]
    assert told.startswith("Error: ")
    assert "secret" not in result.stderr
    return told.removeprefix("Error: ")


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands_are_these() -> None:
    assert list(main.commands) == [
        "demo",
        "stats",
        "timeseries",
        "export",
        "doctor",
        "migrate",
        "archive",
        "build",
        "fold",
        "reconcile",
        "alerts",
        "reports",
        "serve",
        "mcp",
        "dagster",
        "retention",
        "erase-user",
        "uninstall",
        "run",
        "settings",
    ]


@pytest.mark.parametrize("command", [None, *main.commands])
def test_every_command_explains_itself(run: Run, command: str | None) -> None:
    told = succeeded(run(*filter(None, [command, "--help"])))
    assert "Usage: " in told
    assert "..." not in told.replace("[ARGS]...", "").partition("Commands:")[0]


def test_every_command_is_described_whole_at_80_columns(run: Run) -> None:
    told = succeeded(CliRunner().invoke(main, ["--help"], terminal_width=80))
    assert "..." not in told.partition("Commands:")[2]


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


def test_of_one_session_the_singular_is_said(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1)
    assert succeeded(run("archive", conninfo=migrated_database)) == "1 session archived.\n"


def test_the_version_is_told(run: Run) -> None:
    assert re.fullmatch(r"session-analytics, version \d+\.\d+\.\d+\n", succeeded(run("--version")))


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["stats", "--nonsense"], ["stats", "--days", "x"], ["retention"]],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    failed(run(*arguments, conninfo=NOWHERE), exit_code=2)


@pytest.mark.parametrize(
    "command",
    [
        ["stats"],
        ["export"],
        ["migrate"],
        ["archive"],
        ["retention", "--keep-days", "30"],
        ["erase-user", "--yes"],
        ["uninstall", "--yes"],
    ],
)
def test_a_server_that_is_not_there_is_a_sentence(run: Run, command: list[str]) -> None:
    told = failed(run(*command, conninfo=NOWHERE, stdin="analyst_001\n"))
    assert "127.0.0.1" in told
    assert "analyst_001" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--days", "0"], "days is 0; expected an integer from 1 to 3650"),
        (["--type", "stocks"], "session_type is 'stocks'; expected one of equity, crypto"),
        (["--user", ""], "user_id has 0 characters; expected a string of 1 to 255"),
    ],
)
@pytest.mark.parametrize("command", ["stats", "export"])
def test_a_wrong_argument_is_told_with_what_is_allowed(
    run: Run, migrated_database: str, command: str, arguments: list[str], told: str
) -> None:
    result = run(command, *arguments, conninfo=migrated_database)
    assert failed(result, exit_code=2).startswith(told)


def test_a_database_that_is_not_migrated_is_told_what_to_run(run: Run, empty_database: str) -> None:
    assert "session-analytics migrate" in failed(run("stats", conninfo=empty_database))


@pytest.mark.parametrize("interval", ["0", "0.09", "3601", "nan", "soon"])
def test_an_interval_out_of_its_range_is_refused(run: Run, interval: str) -> None:
    result = run("fold", conninfo="dbname=x", SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS=interval)
    assert result.exit_code == 1
    assert "expected seconds, from 0.1 to 3600" in result.stderr


def test_a_setting_that_does_not_parse_is_named(run: Run) -> None:
    told = failed(run("stats", conninfo=NOWHERE, SESSION_ANALYTICS_POOL_SIZE="many"))
    assert told.startswith("SESSION_ANALYTICS_POOL_SIZE is 'many'")
    told = failed(run("stats", conninfo="mysql://someone:secret@host/x"))
    assert told.startswith("DATABASE_URL is no PostgreSQL connection string")


def test_debug_shows_where_an_error_comes_from(run: Run) -> None:
    result = run("--debug", "stats", "--type", "stocks", conninfo=NOWHERE)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_an_error_nobody_expected_is_a_sentence_too(
    run: Run, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_arguments: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr("fiml.cli._figures.run_async", lambda work: work.close() or crash())
    told = failed(run("stats", conninfo=migrated_database))
    assert told.startswith("unexpected RuntimeError: out of cheese")


def test_migrate_brings_a_database_to_this_version_and_can_be_repeated(
    run: Run, empty_database: str
) -> None:
    result = run("migrate", conninfo=empty_database)
    version = MIGRATIONS[-1].version
    assert succeeded(result).startswith(f"The database is at version {version}; {version} ")
    assert "source_tables" in result.stderr
    assert succeeded(run("migrate", conninfo=empty_database)) == (
        f"The database is at version {version} already.\n"
    )


def test_archive_ends_what_has_expired_and_says_how_many(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 7)
    assert succeeded(run("archive", conninfo=migrated_database)) == "7 sessions archived.\n"
    assert succeeded(run("archive", conninfo=migrated_database)) == "0 sessions archived.\n"


def test_archive_tries_again_what_was_set_aside_when_asked(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 2)
    source.execute(
        "alter table session_metrics add constraint no_metrics check (duration_seconds < 0)"
    )
    result = run("archive", conninfo=migrated_database)
    assert succeeded(result) == "0 sessions archived.\n"
    assert "2 could not be and were set aside" in result.stderr
    source.execute("alter table session_metrics drop constraint no_metrics")
    assert succeeded(run("archive", conninfo=migrated_database)) == "0 sessions archived.\n"
    again = run("archive", "--retry-quarantined", conninfo=migrated_database)
    assert succeeded(again) == "2 sessions archived.\n"


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


def test_retention_refuses_before_a_build_and_says_what_to_run(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1)
    run("archive", conninfo=migrated_database)
    told = failed(run("retention", "--keep-days", "1", conninfo=migrated_database))
    assert told.startswith("the marts do not hold every row before")
    assert "Run a build, then retention again." in told


OLD_ROWS = """
insert into session_metrics (session_id, session_type, created_at, duration_seconds, total_queries)
select gen_random_uuid(), 'equity', now() - interval '9 days', 60, 2
from generate_series(1, 3)
"""


@pytest.fixture
def built_with_old_rows(migrated_database: str, source: Connection) -> str:
    """Three rows of metrics that are nine days old, and folded."""
    source.execute(OLD_ROWS)
    fold(source, load_marts(Settings(conninfo=migrated_database)), f"fold {uuid4()}")
    return migrated_database


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiml.cli._database.is_terminal", lambda _stream: True)


@pytest.mark.usefixtures("at_a_terminal")
def test_retention_says_at_a_terminal_what_goes_and_asks(
    run: Run, built_with_old_rows: str, source: Connection
) -> None:
    command = ("retention", "--keep-days", "5")
    declined = run(*command, conninfo=built_with_old_rows, stdin="n\n")
    assert "nothing was done" in declined.stderr
    assert "Drop 3 raw rows from before 20" in declined.stderr
    assert declined.exit_code == 1
    unanswered = run(*command, conninfo=built_with_old_rows, stdin="")
    assert unanswered.exit_code == 1
    assert source.execute("select count(*) from session_metrics").fetchone() == (3,)
    agreed = run(*command, conninfo=built_with_old_rows, stdin="y\n")
    assert succeeded(agreed).startswith("3 rows removed. Raw rows are kept from 20")
    assert source.execute("select count(*) from session_metrics").fetchone() == (0,)
    again = run(*command, conninfo=built_with_old_rows, stdin="")
    assert succeeded(again).startswith("No row was removed. Raw rows are kept from 20")


@pytest.mark.usefixtures("at_a_terminal")
def test_retention_does_not_ask_when_it_was_answered(run: Run, built_with_old_rows: str) -> None:
    done = run("retention", "--keep-days", "5", "--yes", conninfo=built_with_old_rows, stdin="")
    assert succeeded(done).startswith("3 rows removed.")


def test_retention_asks_nobody_where_there_is_no_terminal(
    run: Run, built_with_old_rows: str
) -> None:
    done = run("retention", "--keep-days", "5", conninfo=built_with_old_rows, stdin="")
    assert succeeded(done).startswith("3 rows removed.")
    assert "?" not in done.stderr


def test_erase_user_reads_the_id_from_standard_input_and_repeats_it_nowhere(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 3)
    result = run("erase-user", conninfo=migrated_database, stdin="analyst_001\n")
    assert "needs --yes" in failed(result, exit_code=2)
    result = run("erase-user", "--yes", conninfo=migrated_database, stdin="analyst_001\n")
    assert succeeded(result).startswith("3 rows were removed")
    assert "analyst_001" not in result.output
    again = run("erase-user", "--yes", conninfo=migrated_database, stdin="analyst_001\n")
    assert succeeded(again).startswith("This user had no rows")
    assert "analytics.forget_erasure" in again.stdout
    empty = run("erase-user", "--yes", conninfo=migrated_database, stdin="")
    assert "user_id has 0 characters" in failed(empty, exit_code=2)


def test_uninstall_asks_first_and_leaves_the_source_tables(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1)
    declined = run("uninstall", conninfo=migrated_database, stdin="n\n")
    assert declined.exit_code == 1
    assert "nothing was done" in declined.stderr
    assert (
        "the triggers, the schemas analytics, marts and serving, and the roles" in declined.stderr
    )
    unanswered = run("uninstall", conninfo=migrated_database, stdin="")
    assert unanswered.exit_code == 1
    assert "nothing was done" in unanswered.stderr
    succeeded(run("stats", conninfo=migrated_database))
    agreed = run("uninstall", conninfo=migrated_database, stdin="y\n")
    assert succeeded(agreed) == "Taken out; the source tables are as they were.\n"
    assert source.execute("select count(*) from sessions").fetchone() == (1,)
    again = run("uninstall", "--yes", conninfo=migrated_database)
    assert succeeded(again) == "There was nothing to take out.\n"


def test_doctor_prints_every_finding_with_what_to_do(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 5)
    told = " ".join(succeeded(run("doctor", conninfo=migrated_database)).split())
    assert "ok Server: PostgreSQL" in told
    assert "warning Pending archival: 5 expired sessions wait" in told
    assert "→ Run `session-analytics archive`." in told
    source.execute("alter table sessions disable trigger analytics_log_delete")
    result = run("doctor", conninfo=migrated_database)
    assert result.exit_code == 1
    assert "error" in result.stdout
    assert "enable trigger analytics_log_delete" in " ".join(result.stdout.split())


def test_doctor_explains_a_server_that_is_not_there(run: Run) -> None:
    result = run("doctor", conninfo=NOWHERE)
    assert result.exit_code == 1
    assert "No server: " in result.stdout
    assert "secret" not in result.output


def test_settings_lists_every_setting_and_hides_passwords(run: Run) -> None:
    conninfo = "postgresql://someone:hunter2@127.0.0.1:1/nothing"
    told = succeeded(run("settings", conninfo=conninfo, SESSION_ANALYTICS_POOL_SIZE="3"))
    for setting in SETTINGS:
        assert setting.name in told
        assert setting.help.split()[0] in told
    assert "password=********" in told
    assert "hunter2" not in told
    assert re.search(r"SESSION_ANALYTICS_POOL_SIZE\s+value\s+3\s+default\s+10", told)
    told = succeeded(run("settings", conninfo="mysql://someone:hunter2@host/x"))
    assert "hunter2" not in told


def test_build_folds_and_reconcile_names_the_mart_and_the_day_of_a_drift(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 4, "[red]X")
    run("archive", conninfo=migrated_database)
    result = run("build", conninfo=migrated_database)
    assert re.fullmatch(r"\d+ models and tests passed in \d+\.\d s\.\n", succeeded(result))
    assert "daily_session_stats folded" in result.stderr
    source.execute("update marts.daily_asset_counts set occurrences = occurrences + 1")
    drift = run("reconcile", conninfo=migrated_database)
    assert drift.exit_code == 1
    row = source.execute("select activity_date from marts.daily_asset_counts").fetchone()
    assert row is not None
    told = " ".join(drift.stdout.split())
    assert f"daily_asset_counts │ {row[0]} │ equity, [red]X" in told
    assert "│ 4 │ 5 │" in told
    assert "--from-scratch" in drift.stderr

    succeeded(run("build", "--from-scratch", conninfo=migrated_database))
    same = run("reconcile", "--all", conninfo=migrated_database)
    assert succeeded(same) == "Every mart holds what the source says.\n"
    kept = run("retention", "--keep-days", "1", conninfo=migrated_database)
    assert "Raw rows are kept from" in succeeded(kept)
