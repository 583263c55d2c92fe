"""Real builds on real databases: what the marts hold afterwards, and what nobody ever sees."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from spreading import every
from warehouse.application import (
    MARTS,
    VIEWS,
    Connection,
    dbt,
    mart_rows,
    one,
    record_metrics,
    wait_until,
)

from fiml.errors import BuildError, DatabaseUnavailableError, SchemaVersionError
from fiml.sessions.migrations import migrate
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import reconcile

NO_BUILD_RUNS = (
    "not exists (select from pg_stat_activity "
    "where datname = current_database() and application_name = 'session-analytics-build')"
)
A_BUILD_WAITS = (
    "exists (select from pg_stat_activity where datname = current_database() "
    "and application_name = 'session-analytics-build' and wait_event_type = 'Lock')"
)


def test_a_build_and_dbt_on_the_command_line_leave_the_same_rows(
    make_database: Callable[..., str], settings: Settings, database: Connection, tmp_path: Path
) -> None:
    record_metrics(database, 300)
    database.close()
    name = psycopg.conninfo.conninfo_to_dict(settings.conninfo)["dbname"]
    other = Settings(conninfo=make_database(name))
    lines: list[str] = []
    with ThreadPoolExecutor() as pool:
        by_library = pool.submit(build, settings, on_line=lines.append)
        by_hand = pool.submit(dbt, other, ["build"], tmp_path / "target")
    result = by_library.result()
    assert by_hand.result().returncode == 0, by_hand.result().stdout
    assert (result.succeeded, result.failures) == (True, ())
    assert result.nodes > len(load_marts(settings))
    assert any(line.startswith("daily_asset_counts folded in ") for line in lines)
    with (
        psycopg.connect(settings.conninfo) as mine,
        psycopg.connect(other.conninfo) as theirs,
    ):
        rows = mart_rows(mine)
        assert rows == mart_rows(theirs)
        assert sum(row[2] for row in rows["daily_session_stats"]) == 300


def test_the_light_fold_and_dbt_leave_the_same_rows(
    make_database: Callable[..., str], settings: Settings, database: Connection
) -> None:
    marts = load_marts(settings)
    record_metrics(database, 100)
    fold(database, marts, "first")
    record_metrics(database, 50, days_ago=30)
    database.execute("delete from session_metrics where total_queries = 2")
    database.close()
    name = psycopg.conninfo.conninfo_to_dict(settings.conninfo)["dbname"]
    other = Settings(conninfo=make_database(name))
    build(other)
    with (
        psycopg.connect(settings.conninfo, autocommit=True) as mine,
        psycopg.connect(other.conninfo) as theirs,
    ):
        fold(mine, marts, "second")
        # A copy has another feed: dbt found nothing that it could trust, and began with the source.
        assert mart_rows(mine) == mart_rows(theirs)


@contextmanager
def _reading(conninfo: str) -> Iterator[list[Any]]:
    """Every distinct answer that a reader got meanwhile, in each of two isolation levels."""
    answers: list[Any] = []
    is_over = threading.Event()
    query = """
        select
            (select sum(sessions) from marts.daily_session_stats),
            (select sum(occurrences) from marts.daily_asset_counts),
            (select sum(occurrences) from marts.daily_tag_counts),
            (select sum(queries) from marts.daily_query_type_counts),
            (select sum(sessions) from marts.daily_user_stats),
            (select sum(sessions) from public.dashboard)
    """

    def read() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while not is_over.is_set():
                for level in ("read committed", "repeatable read"):
                    with connection.transaction():
                        connection.execute(
                            f"set transaction isolation level {level}, read only".encode()
                        )
                        answer = connection.execute(query).fetchone()
                    if answer not in answers:
                        answers.append(answer)
                # The builds want some of the machine too.
                is_over.wait(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield answers
    finally:
        is_over.set()
        reader.join()


@every(2)
def test_no_build_is_ever_seen_half_done_and_no_relation_is_made_anew(
    settings: Settings, database: Connection, tmp_path: Path
) -> None:
    relations = """
        select relname, oid, relfilenode, reltype, case when relkind = 'v' then xmin::text end
        from pg_class
        where relnamespace = 'marts'::regnamespace
        order by relname
    """
    record_metrics(database, 200)
    build(settings)
    database.execute(
        "create view public.dashboard as select count(*) as sessions from marts.fct_sessions"
    )
    before = database.execute(relations).fetchall()
    rows = mart_rows(database)
    with _reading(settings.conninfo) as answers:
        with ThreadPoolExecutor() as pool:
            by_hand = pool.submit(dbt, settings, ["run", "--full-refresh"], tmp_path / "target")
            build(settings, from_scratch=True)
        assert by_hand.result().returncode == 0, by_hand.result().stdout
    assert len(answers) == 1, answers
    assert None not in answers[0]
    assert database.execute(relations).fetchall() == before
    assert mart_rows(database) == rows


def test_a_rebuild_repairs_what_somebody_broke(settings: Settings, database: Connection) -> None:
    record_metrics(database, 50)
    marts = load_marts(settings)
    fold(database, marts, "first")
    rows = mart_rows(database)
    database.execute("delete from marts.daily_tag_counts")
    database.execute("update marts.daily_user_stats set queries = queries + 1")
    build(settings, from_scratch=True)
    assert mart_rows(database) == rows


def test_days_that_the_serving_layer_keeps_together_are_compared_together(
    settings: Settings, database: Connection
) -> None:
    marts = load_marts(settings)
    # Its first day holds whatever is dated before, its last day whatever is dated after.
    days = ("4713-01-01 BC", "1999-12-31", "2000-01-01", "2000-01-02", "2199-12-31", "2200-01-01")
    for part, dates in enumerate((days[1:], (days[0], "1970-01-01", "294276-12-31"))):
        for day in dates:
            record_metrics(database, 3)
            database.execute(
                "update session_metrics set created_at = %s::timestamptz where created_at > "
                "now() - interval '9 days' and created_at < now()",
                [day],
            )
        fold(database, marts, f"part {part}")
        assert reconcile(settings) == []
        assert reconcile(settings, all_days=True) == []


@pytest.mark.parametrize(
    ("day", "shown"), [("4713-01-01 BC", date.min), ("294276-12-31", date.max)]
)
def test_a_drift_on_a_day_that_python_does_not_know_is_told(
    settings: Settings, database: Connection, day: str, shown: date
) -> None:
    record_metrics(database, 1)
    database.execute("update session_metrics set created_at = %s", [day])
    fold(database, load_marts(settings), "first")
    database.execute("update marts.daily_session_stats set sessions = sessions + 1")
    [drift] = reconcile(settings)
    assert (drift.activity_date, drift.expected, drift.found) == (
        shown,
        {"sessions": 1},
        {"sessions": 2},
    )


def test_what_is_wrong_in_a_mart_fails_the_build_by_mart_and_day(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 50)
    fold(database, load_marts(settings), "first")
    assert reconcile(settings) == []
    day, session_type, symbol, occurrences = database.execute(
        "update marts.daily_asset_counts set occurrences = occurrences + 1 where ctid = "
        "(select min(ctid) from marts.daily_asset_counts where symbol = 'A3') returning *"
    ).fetchone() or (None, "", "", 0)
    [drift] = reconcile(settings)
    assert (drift.mart, drift.activity_date) == ("daily_asset_counts", day)
    assert drift.key == {"session_type": session_type, "symbol": symbol}
    assert drift.found == {"occurrences": occurrences}
    assert drift.expected == {"occurrences": occurrences - 1}

    # The feed does not say any more that the day was touched: only comparing all days sees it.
    fold(database, load_marts(settings), "later")
    database.execute("select analytics.prune_changes('0')")
    assert reconcile(settings) == []
    assert reconcile(settings, all_days=True) == [drift]

    database.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'other', %s::date + time '12:00' at time zone 'UTC', 1)",
        [day],
    )
    with pytest.raises(BuildError) as failure:
        build(settings)
    assert str(failure.value).startswith(
        "the build failed: daily_asset_counts_matches_source: Got 1 result"
    )
    assert f"daily_asset_counts on {day}" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_build_that_fails_on_a_user_tells_no_artefact_who(
    settings: Settings, database: Connection
) -> None:
    who = "somebody.who@example.org"
    record_metrics(database, 3)
    database.execute("update session_metrics set user_id = %s", [who])
    database.execute("delete from analytics.user_keys where user_id = %s", [who])
    database.execute(
        "alter table analytics.user_keys add constraint no_such_user "
        "check (user_id not like '%@example.org') not valid"
    )
    with pytest.raises(BuildError, match="no_such_user") as failed:
        build(settings, from_scratch=True)
    assert who not in str(failed.value)
    folder = settings.project_dir / "target" / "builds"
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(b"no_such_user" in text for text in written.values())
    assert [path for path, text in written.items() if who.encode() in text] == []
    assert folder.stat().st_mode & 0o077 == 0


def test_names_that_have_no_key_are_reconciled_together(
    settings: Settings, database: Connection
) -> None:
    database.execute("select analytics.set_serving_layout(keyed_names => 4)")
    record_metrics(database, 50)
    fold(database, load_marts(settings), "first")
    record_metrics(database, 50)
    assert reconcile(settings) == []
    fold(database, load_marts(settings), "later")
    assert reconcile(settings) == []
    assert reconcile(settings, all_days=True) == []
    database.execute(
        "update serving.session_totals set added = added || serving.entry(1, -2) where ctid = "
        "(select min(ctid) from serving.session_totals where level = 'day')"
    )
    [drift] = reconcile(settings, all_days=True)
    assert (drift.mart, drift.key["kind"]) == ("session_totals", "overflow")
    assert drift.found["n"] == drift.expected["n"] - 2


@contextmanager
def _building(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A build by a process of its own."""
    script = (
        "import sys\n"
        "from fiml.settings import Settings\n"
        "from fiml.warehouse.builds import build\n"
        "build(Settings.from_environment())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "DATABASE_URL": settings.conninfo},
        stderr=subprocess.PIPE,
        text=True,
        # Its dbt runs in a session of its own; this is how the test finds it.
        start_new_session=True,
    ) as process:
        yield process


@contextmanager
def _blocked_mart(conninfo: str) -> Iterator[None]:
    with psycopg.connect(conninfo) as blocker:
        blocker.execute("lock table marts.daily_asset_counts in share mode")
        yield
        blocker.rollback()


def test_an_interrupted_build_leaves_no_query_running(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 20)
    with _blocked_mart(settings.conninfo), _building(settings) as process:
        wait_until(database, A_BUILD_WAITS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        assert process.returncode != 0
        assert "KeyboardInterrupt" in errors
        wait_until(database, NO_BUILD_RUNS)


def test_a_build_that_would_skip_rows_is_refused(
    settings: Settings, database: Connection, tmp_path: Path
) -> None:
    record_metrics(database, 5)
    found = dbt(settings, ["run", "--empty", "--select", "daily_tag_counts"], tmp_path)
    assert found.returncode != 0
    assert "would move the watermark over rows that were not read" in found.stdout
    assert one(database, "select count(*) from analytics.watermarks where watermark is null") == 6


READABLE = """
    select array_agg(relname::text order by relname)
    from pg_class
    where
        relnamespace = 'marts'::regnamespace
        and relkind in ('r', 'v')
        and has_table_privilege(%s, oid, 'select')
"""
CATALOGUE = "select array_agg(xmin::text order by oid) from pg_class where relkind in ('r', 'v')"


def test_bi_sees_the_marts_and_nobody_loses_what_was_granted_by_hand(
    settings: Settings, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bi, analyst = (f"session_analytics_test_{uuid4().hex}" for _ in range(2))
    for role in (bi, analyst):
        database.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    try:
        database.execute(
            sql.SQL("grant select on marts.daily_tag_counts to {}").format(sql.Identifier(analyst))
        )
        monkeypatch.setenv("SESSION_ANALYTICS_BI_ROLE", bi)
        build(settings)
        assert one(database, READABLE, bi) == [*MARTS, *VIEWS]
        assert one(database, "select has_schema_privilege(%s, 'marts', 'usage')", bi)
        assert not one(database, "select has_schema_privilege(%s, 'analytics', 'usage')", bi)
        catalogue = one(database, CATALOGUE)
        monkeypatch.delenv("SESSION_ANALYTICS_BI_ROLE")
        build(settings)
        assert one(database, READABLE, bi) == [*MARTS, *VIEWS]
        assert one(database, READABLE, analyst) == ["daily_tag_counts"]
        assert one(database, CATALOGUE) == catalogue
    finally:
        for role in (bi, analyst):
            name = sql.Identifier(role)
            database.execute(sql.SQL("drop owned by {}").format(name))
            database.execute(sql.SQL("drop role {}").format(name))


@pytest.fixture(scope="module")
def built_elsewhere(server: Any) -> Iterator[Settings]:
    """A database whose source tables have a schema of their own, after a build."""
    name = server.create_database()
    try:
        settings = Settings(conninfo=server.conninfo(name), source_schema="application")
        migrate(settings.conninfo, settings.source_schema)
        with psycopg.connect(settings.conninfo, autocommit=True) as database:
            database.execute("set search_path to application")
            record_metrics(database, 20)
        build(settings)
        yield settings
    finally:
        server.drop_database(name)


def test_a_source_in_another_schema_is_built_the_same(built_elsewhere: Settings) -> None:
    with psycopg.connect(built_elsewhere.conninfo) as database:
        assert one(database, "select sum(sessions) from marts.daily_session_stats") == 20
        assert one(database, "select count(*) from marts.fct_sessions") == 20
    assert reconcile(built_elsewhere, all_days=True) == []


def test_descriptions_are_comments_in_the_database_for_every_column(
    built_elsewhere: Settings,
) -> None:
    with psycopg.connect(built_elsewhere.conninfo) as database:
        uncommented = database.execute(
            """
            select relname, attname
            from pg_class
            left join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
            where
                relnamespace = 'marts'::regnamespace
                and relkind in ('r', 'v')
                and (
                    obj_description(pg_class.oid, 'pg_class') not like 'One row per %'
                    or obj_description(pg_class.oid, 'pg_class') is null
                    or col_description(pg_class.oid, attnum) is null
                )
            """
        ).fetchall()
    assert uncommented == []


def test_a_database_that_is_not_migrated_is_a_clear_error(empty_database: str) -> None:
    for work in (build, reconcile):
        with pytest.raises(SchemaVersionError, match="run `session-analytics migrate`"):
            work(Settings(conninfo=empty_database))


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    for work in (build, reconcile):
        with pytest.raises(DatabaseUnavailableError, match="did not answer"):
            work(Settings(conninfo="host=127.0.0.1 port=1 dbname=x connect_timeout=2"))
