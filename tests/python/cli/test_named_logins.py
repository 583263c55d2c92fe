"""Logins that are named without DATABASE_URL: they are the database, or the command refuses."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import psycopg
import pytest
from cli.outcomes import NOWHERE, Connection, Run, failed, succeeded
from warehouse.application import record_metrics

from fiml.demo._database import new_demo_database
from fiml.demo._logins import make_logins
from fiml.local_server import local_server
from fiml.sessions.migrations import migrate

READER = "SESSION_ANALYTICS_READER_URL"
BUILDER = "SESSION_ANALYTICS_BUILDER_URL"
APP = "SESSION_ANALYTICS_APP_URL"
PAGE = ("serve", "--insecure-local", "--port", "0")
TOOL = ("mcp", "--http", "--insecure-local", "--port", "0")
NOTHING_FOLDS = "Nothing folds: no login of a builder is named."


@pytest.fixture(name="demo")
def _demo(elsewhere: Path) -> None:
    """A demo's database on the local server, which must not be what is shown."""
    with local_server(durable=False) as server, new_demo_database(server.conninfo()) as conninfo:
        migrate(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            make_logins(connection, server)


def lines_until_it_serves(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.decode().strip())
        if lines[-1].startswith("Serving "):
            return lines
    pytest.fail(f"it ended: {lines}")


def ended(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_a_page_of_a_reader_alone_shows_the_reader_s_database_and_tells_that_nothing_folds(
    start: Callable[..., subprocess.Popen[bytes]], source: Connection, migrated_database: str
) -> None:
    record_metrics(source, 7)
    process = start(*PAGE, **{READER: migrated_database})
    told, serving = lines_until_it_serves(process)
    assert told.startswith(NOTHING_FOLDS)
    origin = next(word for word in serving.split() if word.startswith("http")).rstrip(";")
    assert httpx2.get(f"{origin}/api/stats").json()["total_sessions"] == 7
    ended(process)


@pytest.mark.parametrize(
    ("arguments", "names", "told"),
    [
        ((), (READER,), [NOTHING_FOLDS]),
        (("--no-fold",), (READER,), []),
        ((), (READER, BUILDER), []),
    ],
)
def test_the_tool_folds_with_a_builder_s_login_alone(
    start: Callable[..., subprocess.Popen[bytes]],
    migrated_database: str,
    arguments: tuple[str, ...],
    names: tuple[str, ...],
    told: list[str],
) -> None:
    process = start(*TOOL, *arguments, **dict.fromkeys(names, migrated_database))
    *before, _ = lines_until_it_serves(process)
    assert [line[: len(NOTHING_FOLDS)] for line in before] == told
    ended(process)


@pytest.mark.usefixtures("demo")
def test_where_a_reader_is_named_the_demo_is_never_shown(run: Run) -> None:
    assert succeeded(run("stats", "--json", PGSSLMODE="require", PGOPTIONS="-c role=nobody"))
    for command in (["stats"], ["export"]):
        assert failed(run(*command, **{READER: NOWHERE})).startswith("cannot connect: ")
    for command in (["migrate"], ["archive"], ["build"], ["run", "true"]):
        assert failed(run(*command, **{READER: NOWHERE})).startswith(
            "no database is named for this command: set DATABASE_URL"
        )
    # It archives, builds and, where there are alert rules, reads.
    assert failed(run("dagster", **{BUILDER: NOWHERE})) == (
        "no database is named for this command: set DATABASE_URL or SESSION_ANALYTICS_APP_URL and "
        "SESSION_ANALYTICS_BUILDER_URL; SESSION_ANALYTICS_BUILDER_URL alone is not enough"
    )
    with_rules = {APP: NOWHERE, BUILDER: NOWHERE, "SESSION_ANALYTICS_ALERTS_FILE": "alerts.yml"}
    assert "SESSION_ANALYTICS_READER_URL;" in failed(run("dagster", **with_rules))
    assert failed(run("serve", "--insecure-local", **{APP: NOWHERE})) == (
        "no database is named for this command: set DATABASE_URL or SESSION_ANALYTICS_READER_URL; "
        "SESSION_ANALYTICS_APP_URL alone is for others"
    )


def test_a_page_that_names_a_reader_is_ready_only_where_that_one_is(
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start(*PAGE, "--no-fold", **{READER: NOWHERE})
    (serving,) = lines_until_it_serves(process)
    origin = next(word for word in serving.split() if word.startswith("http")).rstrip(";")
    assert httpx2.get(f"{origin}/readyz").status_code == 503
    ended(process)
