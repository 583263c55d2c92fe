"""The commands that remove, which ask first: `retention`, `erase-user`, `uninstall`."""

from uuid import uuid4

import pytest
from cli.outcomes import Connection, Run, add_expired, failed, succeeded

from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

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


def test_retention_refuses_before_a_build_and_says_what_to_run(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1)
    run("archive", conninfo=migrated_database)
    told = failed(run("retention", "--keep-days", "1", conninfo=migrated_database))
    assert told.startswith("the marts do not hold every row before")
    assert "Run a build, then retention again." in told


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
