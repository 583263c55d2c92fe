"""The process that folds every second: beside builds, killed, interrupted, in trouble."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import scalar_row
from spreading import every
from warehouse.application import (
    Connection,
    leave_expired_sessions,
    mart_rows,
    one,
    record_metrics,
    wait_until,
)
from warehouse.fold_process import FoldProcess

from fiml.errors import BuildError
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold
from fiml.warehouse.folder import Folder, _connect
from fiml.warehouse.folding import folding
from fiml.warehouse.notices import CHANNEL
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import reconcile

NOBODY_FOLDS = (
    "not exists (select from pg_stat_activity "
    "where datname = current_database() and application_name = 'session-analytics-fold')"
)
SOMEBODY_FOLDS = (
    "exists (select from pg_stat_activity "
    "where datname = current_database() and application_name = 'session-analytics-fold')"
)
A_FOLD_WAITS = (
    "exists (select from pg_stat_activity where datname = current_database() "
    "and application_name = 'session-analytics-fold' and wait_event_type = 'Lock')"
)
ALL_IS_FOLDED = (
    "not exists (select from analytics.mart_states, analytics.session_changes "
    "where mart_states.watermark is null "
    "or analytics.is_unseen(session_changes.xid, mart_states.watermark))"
)


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], FoldProcess]]:
    with ExitStack() as stack:

        def started() -> FoldProcess:
            found = FoldProcess(settings)
            stack.enter_context(found.process)
            stack.callback(found.process.kill)
            return found

        yield started


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """Configured as the process's own."""
    with _connect(settings) as own:
        yield own


def _windows(database: Connection) -> int:
    return int(one(database, "select count(*) from analytics.build_windows"))


def _assert_exact(settings: Settings, database: Connection) -> None:
    assert reconcile(settings, all_days=True) == []
    folded = mart_rows(database)
    database.execute("select analytics.request_rebuild()")
    fold(database, load_marts(settings), "from scratch")
    assert mart_rows(database) == folded


def test_what_comes_in_is_folded_from_the_first_build_on(
    settings: Settings, database: Connection, start: Callable[[], FoldProcess]
) -> None:
    record_metrics(database, 50)
    process = start()
    # Nobody has ever built.
    wait_until(database, "(select sum(sessions) from marts.daily_session_stats) = 50")
    record_metrics(database, 20, days_ago=40)
    leave_expired_sessions(database, 3)
    database.execute("select * from analytics.archive_expired_sessions(100)")
    database.execute("delete from session_metrics where total_queries = 2")
    wait_until(database, ALL_IS_FOLDED)
    assert process.end(signal.SIGTERM) == 0
    _assert_exact(settings, database)


def test_without_new_rows_it_opens_no_window_and_with_some_one_for_all_marts(
    settings: Settings, database: Connection, connection: Connection
) -> None:
    folder = Folder(settings)
    record_metrics(database, 5)
    assert folder.fold(connection)
    # What was folded from scratch, one by one, ends at one window with the next look.
    assert folder.fold(connection)
    before = _windows(database)
    for _ in range(5):
        assert not folder.fold(connection)
    assert _windows(database) == before
    record_metrics(database, 5)
    assert folder.fold(connection)
    assert _windows(database) == before + 1
    assert one(database, "select count(distinct window_id) from analytics.watermarks") == 1


def test_who_listens_is_told_of_new_rows_and_of_nothing_else(
    settings: Settings, database: Connection, connection: Connection
) -> None:
    folder = Folder(settings)
    while folder.fold(connection):
        pass
    database.execute(f"listen {CHANNEL}")
    assert not folder.fold(connection)
    record_metrics(database, 3)
    assert folder.fold(connection)
    assert not folder.fold(connection)
    # What is sent after all of that marks the end.
    connection.execute(f"notify {CHANNEL}, 'end'")
    told = [note.payload for note in database.notifies(timeout=30, stop_after=2)]
    assert told == ["", "end"]


def test_few_rows_are_folded_with_plans_that_are_kept_and_many_without(
    settings: Settings, database: Connection, connection: Connection
) -> None:
    folder = Folder(settings)
    folder.fold(connection)
    plans = "select sum(generic_plans)::int from pg_prepared_statements where statement ~ '^insert'"
    used = []
    for count in (5, 5, 5, 6000, 5):
        record_metrics(database, count)
        assert folder.fold(connection)
        used.append(one(connection, plans))
    marts = len(load_marts(settings))
    once = used[0]
    assert used == [once, once + marts, once + 2 * marts, once + 2 * marts, once + 3 * marts]
    assert (
        one(
            connection,
            "select max(custom_plans) from pg_prepared_statements where statement ~ '^insert'",
        )
        == 0
    )
    wait_until(database, ALL_IS_FOLDED)


def test_a_mart_that_somebody_else_folds_is_left_to_them_at_once(
    settings: Settings, database: Connection, connection: Connection
) -> None:
    folder = Folder(settings)
    folder.fold(connection)
    for request in ("select 1", "select analytics.request_rebuild()"):
        database.execute(request.encode())
        record_metrics(database, 5)
        with database.transaction():
            database.execute(
                "select from analytics.watermarks where mart = 'daily_tag_counts' for update"
            )
            folder.fold(connection)
            behind = connection.cursor(row_factory=scalar_row).execute(
                "select mart from analytics.mart_states where is_rebuild_requested or exists ("
                "select from analytics.session_changes where analytics.is_unseen(xid, watermark))"
            )
            assert behind.fetchall() == ["daily_tag_counts"]
            # It is not asked for again and again: each time would open a window.
            windows = _windows(database)
            for _ in range(5):
                folder.fold(connection)
            assert _windows(database) <= windows + 2
        folder._troubles.clear()
        folder.fold(connection)
        wait_until(database, ALL_IS_FOLDED)


def test_after_a_restore_into_another_cluster_it_starts_from_scratch(
    settings: Settings, database: Connection, connection: Connection
) -> None:
    folder = Folder(settings)
    record_metrics(database, 20)
    folder.fold(connection)
    database.execute("update analytics.watermarks set system_identifier = 1")
    database.execute("delete from marts.daily_user_stats")
    assert folder.fold(connection)
    _assert_exact(settings, database)


def test_the_second_stands_by_and_takes_over_from_a_killed_one(
    settings: Settings, database: Connection, start: Callable[[], FoldProcess]
) -> None:
    first = start()
    first.wait_for("folding every")
    second = start()
    second.wait_for("standing by")
    first.process.kill()
    second.wait_for("folding every")
    record_metrics(database, 20)
    wait_until(database, "(select sum(sessions) from marts.daily_session_stats) = 20")
    assert second.end(signal.SIGTERM) == 0
    wait_until(database, NOBODY_FOLDS)
    _assert_exact(settings, database)


@every(2)
def test_folders_beside_builds_and_rebuilds_never_fold_a_row_twice_or_fail_a_build(
    settings: Settings, database: Connection, start: Callable[[], FoldProcess]
) -> None:
    record_metrics(database, 200)
    processes = [start(), start()]
    with ThreadPoolExecutor() as pool:
        builds = [
            pool.submit(build, settings),
            pool.submit(build, settings, from_scratch=True),
        ]
        rounds = 0
        while not all(running.done() for running in builds):
            record_metrics(database, 3, days_ago=rounds % 9)
            database.execute(
                "delete from session_metrics where id in "
                "(select id from session_metrics order by created_at limit 1)"
            )
            if rounds % 50 == 0:
                database.execute("select analytics.request_rebuild()")
            rounds += 1
    for running in builds:
        assert running.result().succeeded
    wait_until(database, ALL_IS_FOLDED)
    for process in processes:
        assert process.end(signal.SIGTERM) == 0
    _assert_exact(settings, database)


@contextmanager
def _blocked_mart(conninfo: str) -> Iterator[None]:
    with psycopg.connect(conninfo) as blocker:
        blocker.execute("lock table marts.daily_tag_counts in share mode")
        yield
        blocker.rollback()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("is_first_fold", [True, False])
def test_ended_in_the_middle_of_a_fold_it_leaves_no_query_and_no_lock(
    settings: Settings,
    database: Connection,
    start: Callable[[], FoldProcess],
    number: signal.Signals,
    code: int,
    is_first_fold: bool,
) -> None:
    if not is_first_fold:
        fold(database, load_marts(settings), "first")
    record_metrics(database, 20)
    with _blocked_mart(settings.conninfo):
        process = start()
        wait_until(database, A_FOLD_WAITS)
        assert process.end(number) == code
        wait_until(database, NOBODY_FOLDS)
    assert "warning" not in process.said.lower()
    fold(database, load_marts(settings), "next")
    _assert_exact(settings, database)


def test_a_mart_that_fails_is_told_once_and_the_others_are_folded(
    settings: Settings, database: Connection, start: Callable[[], FoldProcess]
) -> None:
    fold(database, load_marts(settings), "first")
    database.execute(
        "alter table marts.daily_tag_counts add constraint never check (false) not valid"
    )
    process = start()
    process.wait_for("folding every")
    for so_far in (20, 40, 60):
        record_metrics(database, 20)
        wait_until(
            database,
            f"(select sum(sessions) from marts.daily_session_stats) = {so_far} "
            f"and (select sum(sessions) from marts.daily_user_stats) = {so_far}",
        )
    process.wait_for("daily_tag_counts: the database refused: ")
    database.execute("alter table marts.daily_tag_counts drop constraint never")
    process.wait_for("daily_tag_counts: works again")
    wait_until(database, ALL_IS_FOLDED)
    assert process.end(signal.SIGTERM) == 0
    assert process.said.count("the database refused") == 1
    assert "user 1" not in process.said
    _assert_exact(settings, database)


def test_a_connection_that_breaks_is_made_again(
    settings: Settings, database: Connection, start: Callable[[], FoldProcess]
) -> None:
    process = start()
    process.wait_for("folding every")
    for so_far in (10, 20):
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
            "current_database() and application_name = 'session-analytics-fold'"
        )
        process.wait_for("database: works again")
        record_metrics(database, 10)
        wait_until(database, f"(select sum(sessions) from marts.daily_session_stats) = {so_far}")
    assert process.end(signal.SIGINT) == 130


def test_a_server_that_is_not_there_is_waited_for_and_told_once(
    start: Callable[[], FoldProcess], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    process = FoldProcess(Settings(conninfo="host=127.0.0.1 port=1 dbname=x"))
    process.wait_for("database: the database did not answer")
    assert process.end(signal.SIGTERM) == 0
    assert process.said.count("did not answer") == 1


def test_a_database_that_is_not_migrated_is_a_clear_error(empty_database: str) -> None:
    process = FoldProcess(Settings(conninfo=empty_database))
    _, errors = process.process.communicate(timeout=30)
    assert process.process.returncode == 1
    assert errors.startswith("Error: the database is at version 0")
    assert "run `session-analytics migrate`" in errors


def test_windows_of_folds_go_and_those_of_builds_and_both_bounds_stay(
    database: Connection, settings: Settings
) -> None:
    for run_id in ("build", "fold 1", "fold 2", "fold 3", "fold 4"):
        database.execute("select analytics.open_window(%s)", [run_id])
    database.execute(
        "update analytics.build_windows set opened_at = opened_at - interval '40 minutes'"
    )
    for run_id in ("fold 5", "fold 6"):
        database.execute("select analytics.open_window(%s)", [run_id])

    def left() -> list[str]:
        database.execute("select analytics.prune_changes()")
        return (
            database.cursor(row_factory=scalar_row)
            .execute("select run_id from analytics.build_windows order by window_id")
            .fetchall()
        )

    database.execute(
        "update analytics.watermarks set watermark = upper_bound, window_id = windows.window_id "
        "from analytics.build_windows as windows where run_id = 'fold 2'"
    )
    assert left() == ["build", "fold 2", "fold 4", "fold 5", "fold 6"]
    fold(database, load_marts(settings), "fold 7")
    assert left() == ["build", "fold 4", "fold 5", "fold 6", "fold 7"]
    database.execute("update analytics.build_windows set opened_at = opened_at - interval '8 days'")
    assert left() == ["fold 7"]


def test_pruning_leaves_what_a_slow_mart_has_not_seen(
    database: Connection, settings: Settings
) -> None:
    marts = load_marts(settings)
    fold(database, marts, "fold 1")
    record_metrics(database, 10)
    fold(database, [mart for mart in marts if mart.name != "daily_tag_counts"], "fold 2")
    assert one(database, "select analytics.prune_changes('0')") == 0
    fold(database, marts, "fold 3")
    assert one(database, "select analytics.prune_changes('0')") == 10
    _assert_exact(settings, database)


def test_a_child_ends_with_its_parent_however_that_ends(
    settings: Settings, database: Connection
) -> None:
    script = (
        "import sys\n"
        "from fiml.settings import Settings\n"
        "from fiml.warehouse.folding import folding\n"
        "with folding(Settings.from_environment(), on_line=print):\n"
        "    sys.stdin.read()\n"
    )
    for how in (signal.SIGKILL, signal.SIGTERM, None):
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "DATABASE_URL": settings.conninfo},
            stdin=subprocess.PIPE,
        ) as parent:
            wait_until(database, SOMEBODY_FOLDS)
            if how is None:
                assert parent.stdin is not None
                parent.stdin.close()
            else:
                parent.send_signal(how)
            parent.wait()
            wait_until(database, NOBODY_FOLDS)


def test_a_child_waits_for_a_database_that_is_not_migrated_yet(
    empty_database: str, tmp_path: Path
) -> None:
    from fiml.sessions.migrations import migrate

    with (
        (tmp_path / "log").open("wb") as output,
        folding(Settings(conninfo=empty_database), on_line=pytest.fail, output=output),
        psycopg.connect(empty_database, autocommit=True) as database,
    ):
        # Its connection is there for milliseconds; what it says of it stays.
        for _ in range(3_000):
            if "is at version 0" in (tmp_path / "log").read_text(encoding="utf-8"):
                break
            database.execute("select pg_sleep(0.02)")
        else:
            pytest.fail("the child never looked at the database")
        migrate(empty_database)
        record_metrics(database, 10)
        wait_until(database, "(select sum(sessions) from marts.daily_session_stats) = 10")


def test_without_a_project_nothing_folds_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = Settings(project_dir=tmp_path)
    with folding(settings, on_line=lines.append):
        assert len(lines) == 1
        assert "no dbt_project.yml" in lines[0]
    with pytest.raises(BuildError, match=r"no dbt_project\.yml"):
        Folder(settings)
