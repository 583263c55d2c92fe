"""What every command shares: help, arguments, settings, and errors that are sentences."""

import re

import psycopg
import pytest
from cli.outcomes import NOWHERE, Run, failed, succeeded
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from fiml.cli import main
from fiml.settings import SETTINGS


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


@pytest.mark.parametrize(
    "keyword", ["password", "sslpassword", "scram_client_key", "scram_server_key"]
)
def test_settings_hide_what_is_as_good_as_a_password(run: Run, keyword: str) -> None:
    try:
        make_conninfo("", **{keyword: "SECRETKEY=="})
    except psycopg.ProgrammingError:
        pytest.skip("this libpq does not know it")
    told = succeeded(run("settings", conninfo=f"host=h user=u {keyword}=SECRETKEY=="))
    assert "SECRETKEY" not in told
    assert f"{keyword}=********" in told.replace("\n", "")
    assert "user=u" in told


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
