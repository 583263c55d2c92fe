"""Migrations: from nothing, from the documented DDL with rows in it, from every earlier version."""

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from exactness.oracle import assert_same, expected_stats, read_source
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from spreading import spread

from fiml.database import Database
from fiml.errors import SchemaVersionError
from fiml.sessions import migrations, queries
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.migrations import MIGRATIONS, installed_version, migrate, uninstall
from fiml.sessions.reading import read_stats
from fiml.settings import Settings
from fiml.warehouse.fold import fold, fold_statements, open_window
from fiml.warehouse.project import Mart

Connection = psycopg.Connection[tuple[Any, ...]]

LAST = MIGRATIONS[-1].version
EVERY_VERSION = [step.version for step in MIGRATIONS]

# Word for word the documented statements, without "other fields".
DOCUMENTED_DDL = """
CREATE TABLE session_metrics (
    id SERIAL PRIMARY KEY,
    session_id UUID NOT NULL,
    user_id VARCHAR(255),
    session_type VARCHAR(50) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    duration_seconds INTEGER NOT NULL,
    total_queries INTEGER NOT NULL DEFAULT 0,
    cache_hit_rate VARCHAR(50) NOT NULL DEFAULT '0.0',
    avg_query_time_ms VARCHAR(50),
    assets_analyzed JSONB NOT NULL DEFAULT '[]',
    query_type_summary JSONB NOT NULL DEFAULT '{}',
    completed_normally BOOLEAN NOT NULL DEFAULT FALSE,
    abandoned BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    user_id VARCHAR(255),
    type VARCHAR(50) NOT NULL,
    tags JSONB NOT NULL DEFAULT '[]',
    is_archived BOOLEAN NOT NULL DEFAULT FALSE,
    archived_at TIMESTAMPTZ
);
"""

# What a program writes that knows the documented columns and no others.
WRITE_SESSION = """
insert into sessions (id, user_id, type, tags, is_archived, archived_at)
values (%s, %s, %s, '["tech", "growth"]', true, now() - interval '1 hour')
"""
WRITE_METRICS = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries, cache_hit_rate,
    avg_query_time_ms, assets_analyzed, query_type_summary, completed_normally, abandoned
)
values (
    %s, %s, %s, now() - interval '1 day', 90, 3, '0.25', '12.5', '["AAPL", "MSFT"]',
    '{"price": 2, "news": 1}', true, false
)
"""


@contextmanager
def connected(conninfo: str, schema: str = "public") -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        yield connection


def value(connection: Connection, statement: str, *parameters: object) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def write(connection: Connection, user_id: str | None = "ann", kind: str = "equity") -> UUID:
    """An archived session and its metrics."""
    session_id = uuid4()
    connection.execute(WRITE_SESSION, [session_id, user_id, kind])
    connection.execute(WRITE_METRICS, [session_id, user_id, kind])
    return session_id


def stats(
    conninfo: str, schema: str = "public", path: str | None = None, **question: Any
) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        settings = Settings(conninfo=conninfo, source_schema=schema, timeout_seconds=30)
        async with Database(settings) as database:
            if path is None:
                return await SessionAnalytics(database).get_session_stats(**question)
            return await database.run(
                lambda connection: read_stats(connection, path=path, **question)
            )

    return asyncio.run(read())


def check_figures(conninfo: str, schema: str = "public") -> dict[str, Any]:
    """The platform's answer, after it and every filter's was compared with a naive count."""
    with connected(conninfo, schema) as connection:
        source = read_source(connection)
    users = {row["user_id"] for row in source["metrics"]}
    for user_id in (None, *sorted(users - {None})):
        for session_type in (None, "equity", "macro"):
            question: dict[str, Any] = {
                "user_id": user_id,
                "session_type": session_type,
                "days": 30,
            }
            expected = expected_stats(source, **question)
            for path in (None, "marts", "source"):
                assert_same(stats(conninfo, schema, path=path, **question), expected)
    return stats(conninfo, schema)


def build(conninfo: str, marts: tuple[Mart, ...], run_id: str = "run") -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        fold(connection, marts, run_id)


def fold_as_it_was(conninfo: str, marts: tuple[Mart, ...]) -> None:
    """Fold what there is to fold at an earlier version, which knew of no ranges."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        open_window(connection, "before")
        known = {row[0] for row in connection.execute("select mart from analytics.watermarks")}
        for mart in marts:
            if mart.name in known:
                with connection.transaction():
                    connection.execute("select analytics.begin_fold(%s, 'before')", [mart.name])
                    for statement in fold_statements(mart):
                        connection.execute(statement.encode())
                    connection.execute("select analytics.end_fold(%s)", [mart.name])


def own_objects(connection: Connection) -> set[str]:
    """Everything that is not the system's, with what defines it."""
    return {
        row[0]
        for row in connection.execute(
            """
            select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast|temp)'
            union all
            select format('%s %s.%s', relkind, nspname, relname)
            from pg_class join pg_namespace on pg_namespace.oid = relnamespace
            where nspname !~ '^(pg_|information_schema)'
            union all
            select format('column %s %s %s', attrelid::regclass, attname, attnum)
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            join pg_namespace on pg_namespace.oid = relnamespace
            where nspname !~ '^(pg_|information_schema)' and attnum > 0 and not attisdropped
            union all
            select 'function ' || md5(pg_get_functiondef(pg_proc.oid))
            from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
            where nspname !~ '^(pg_|information_schema)' and prokind <> 'a'
            union all
            select format('aggregate %s %s', aggfnoid, aggtransfn) from pg_aggregate
            union all
            select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger
            """
        )
    }


def is_waiting(connection: Connection, pid: int, relation: str | None = None) -> bool:
    return bool(
        value(
            connection,
            "select exists (select from pg_locks where pid = %s and not granted "
            "and (%s::text is null or relation = to_regclass(%s)))",
            pid,
            relation,
            relation,
        )
    )


class Migrating(threading.Thread):
    """A migration that may have to wait, beside the test."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__()
        self._conninfo = make_conninfo(conninfo, application_name="migrating", **options)
        self._applied: list[int] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._applied = [step.version for step in migrate(self._conninfo)]
        except Exception as error:  # noqa: BLE001 - raised in the test's thread
            self._error = error

    def wait_for_lock(self, connection: Connection, relation: str) -> None:
        while self.is_alive():
            pid = value(
                connection,
                "select pid from pg_stat_activity where application_name = 'migrating' "
                "and datname = current_database()",
            )
            if pid is not None and is_waiting(connection, pid, relation):
                return
        pytest.fail(f"the migration ended without waiting: {self._error or self._applied}")

    def result(self) -> list[int]:
        self.join()
        if self._error is not None:
            raise self._error
        return self._applied


@pytest.fixture
def documented(empty_database: str) -> Iterator[Connection]:
    """A database made from the documented DDL."""
    with connected(empty_database) as connection:
        connection.execute(DOCUMENTED_DDL.encode())
        yield connection


# From an empty database -------------------------------------------------------------------------


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    assert list(range(1, LAST + 1)) == EVERY_VERSION


def test_an_empty_database_gets_every_migration_and_answers(empty_database: str) -> None:
    seen: list[int] = []
    applied = migrate(empty_database, on_progress=lambda step: seen.append(step.version))
    assert [step.version for step in applied] == seen == EVERY_VERSION
    assert check_figures(empty_database)["total_sessions"] == 0
    with connected(empty_database) as connection:
        assert installed_version(connection) == LAST
        write(connection)
        write(connection, None, "macro")
    assert check_figures(empty_database)["total_sessions"] == 2


def test_a_database_that_is_not_migrated_is_at_version_0(empty_database: str) -> None:
    with connected(empty_database) as connection:
        assert installed_version(connection) == 0


def test_migrating_again_changes_nothing(empty_database: str) -> None:
    with connected(empty_database) as connection:
        migrate(empty_database)
        write(connection)
        objects = own_objects(connection)
        applied_at = connection.execute("table analytics.migrations").fetchall()
        metrics = connection.execute("select xmin, * from session_metrics").fetchall()
        assert migrate(empty_database) == []
        assert own_objects(connection) == objects
        assert connection.execute("table analytics.migrations").fetchall() == applied_at
        assert connection.execute("select xmin, * from session_metrics").fetchall() == metrics


@pytest.mark.parametrize("is_documented_ddl", [False, True])
def test_the_documented_indexes_exist_with_the_documented_names_and_columns(
    empty_database: str, is_documented_ddl: bool
) -> None:
    with connected(empty_database) as connection:
        if is_documented_ddl:
            connection.execute(DOCUMENTED_DDL.encode())
        migrate(empty_database)
        found = dict(connection.execute("select indexname, indexdef from pg_indexes").fetchall())
    for name, on in {
        "idx_session_metrics_user_id": "public.session_metrics USING btree (user_id)",
        "idx_session_metrics_created_at": "public.session_metrics USING btree (created_at)",
        "idx_session_metrics_type": "public.session_metrics USING btree (session_type)",
        "idx_sessions_archived": "public.sessions USING btree (is_archived)",
    }.items():
        assert found[name] == f"CREATE INDEX {name} ON {on}"


def test_both_ways_lead_to_the_same_columns(make_database: Callable[..., str]) -> None:
    def columns(conninfo: str) -> list[tuple[Any, ...]]:
        with connected(conninfo) as connection:
            return connection.execute(
                "select table_name, column_name, data_type, is_nullable, is_identity, "
                "is_generated, generation_expression, column_default "
                "from information_schema.columns where table_schema = 'public' order by 1, 2"
            ).fetchall()

    empty, documented = make_database(), make_database()
    with connected(documented) as connection:
        connection.execute(DOCUMENTED_DDL.encode())
    for conninfo in (empty, documented):
        migrate(conninfo)
    assert columns(documented) == columns(empty)


# From the documented DDL, with rows -------------------------------------------------------------


def test_rows_that_were_there_count_before_the_first_build_and_after_it(
    documented: Connection, empty_database: str, marts: tuple[Mart, ...]
) -> None:
    for user_id, kind in (("ann", "equity"), ("ann", "macro"), ("bob", "equity"), (None, "old")):
        write(documented, user_id, kind)
    migrate(empty_database)
    before = check_figures(empty_database)
    assert before["total_sessions"] == before["archived_sessions"] == 4
    assert before["top_assets"] == [{"symbol": "AAPL", "count": 4}, {"symbol": "MSFT", "count": 4}]
    assert before["popular_tags"] == [{"tag": "growth", "count": 4}, {"tag": "tech", "count": 4}]
    build(empty_database, marts)
    assert check_figures(empty_database) == before
    meta = stats(empty_database, include_meta=True)["meta"]
    assert (meta["path"], meta["serving_rows"] > 0) == ("serving", True)


def test_of_several_metrics_of_one_session_the_highest_id_stays(
    documented: Connection, empty_database: str
) -> None:
    session_id = uuid4()
    documented.execute(WRITE_METRICS, [uuid4(), "ann", "equity"])
    for written_id, count in ((2, 5), (9, 7), (4, 6)):
        documented.execute(
            "insert into session_metrics (id, session_id, session_type, created_at, "
            "duration_seconds, total_queries) values (%s, %s, 'equity', now(), 1, %s)",
            [written_id, session_id, count],
        )
    migrate(empty_database)
    rows = documented.execute("select id, total_queries from session_metrics order by id desc")
    assert rows.fetchone() == (9, 7)
    assert value(documented, "select count(*) from session_metrics") == 2
    assert check_figures(empty_database)["total_queries"] == 10
    with pytest.raises(errors.UniqueViolation):
        documented.execute(WRITE_METRICS, [session_id, "ann", "equity"])


def test_tags_are_copied_once(documented: Connection, empty_database: str) -> None:
    session_id = write(documented)
    documented.execute(WRITE_METRICS, [uuid4(), "ann", "equity"])
    migrate(empty_database)
    documented.execute("update sessions set tags = '[\"later\"]' where id = %s", [session_id])
    migrate(empty_database)
    found = documented.execute("select tags from session_metrics order by id").fetchall()
    # Metrics whose session is not there have none, and count as such.
    assert found == [(["tech", "growth"],), (None,)]
    assert check_figures(empty_database)["popular_tags"] == [
        {"tag": "growth", "count": 1},
        {"tag": "tech", "count": 1},
    ]


def test_sessions_without_an_expiry_are_never_active(
    documented: Connection, empty_database: str
) -> None:
    documented.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    migrate(empty_database)
    assert value(documented, "select expires_at from sessions") is None
    assert check_figures(empty_database)["active_sessions"] == 0
    documented.execute("update sessions set expires_at = now() + interval '1 hour'")
    assert check_figures(empty_database)["active_sessions"] == 1


def test_a_session_without_a_creation_time_began_when_its_metrics_say(
    documented: Connection, empty_database: str
) -> None:
    write(documented)
    migrate(empty_database)
    assert value(
        documented,
        "select sessions.created_at = session_metrics.created_at from sessions "
        "join session_metrics on session_id = sessions.id",
    )


@pytest.mark.parametrize("highest", [None, 3, 2**31 - 1])
def test_the_serial_becomes_a_bigint_identity_that_goes_on_after_the_highest_id(
    documented: Connection, empty_database: str, highest: int | None
) -> None:
    if highest is not None:
        write(documented)
        # Past what the sequence knows.
        documented.execute("update session_metrics set id = %s", [highest])
    migrate(empty_database)
    write(documented)
    write(documented)
    first = 1 if highest is None else highest + 1
    found = [row[0] for row in documented.execute("select id from session_metrics order by id")]
    assert found[-2:] == [first, first + 1]
    columns = documented.execute(
        "select data_type, is_identity, identity_generation from information_schema.columns "
        "where table_name = 'session_metrics' and column_name = 'id'"
    ).fetchall()
    assert columns == [("bigint", "YES", "BY DEFAULT")]
    # The one that the column had before is gone.
    sequences = (
        "select count(*) from pg_class "
        "where relkind = 'S' and relnamespace = 'public'::regnamespace"
    )
    assert value(documented, sequences) == 1


RATES = {
    "": (None, None),
    "nan": (None, None),
    "NaN": (None, None),
    "inf": (None, None),
    "1e400": (None, None),
    "-0.5": (None, None),
    " 0.5": (None, None),
    "0.5\n": (None, None),
    "0x1": (None, None),
    "\u0661": (None, None),
    ".5": (None, None),
    "9" * 50: (None, None),
    "0.5": ("0.5", "0.5"),
    "0.0": ("0.0", "0.0"),
    "1": ("1", "1"),
    "1.01": (None, "1.01"),
    "12.125": (None, "12.125"),
}


@pytest.mark.parametrize("is_there_before", [True, False])
def test_text_rates_have_numeric_twins_where_they_are_numbers_in_range(
    documented: Connection, empty_database: str, is_there_before: bool
) -> None:
    if not is_there_before:
        migrate(empty_database)
    for rate in RATES:
        documented.execute(
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds, "
            "cache_hit_rate, avg_query_time_ms) "
            "values (gen_random_uuid(), 'equity', now(), 1, %s, %s)",
            [rate, rate],
        )
    if is_there_before:
        migrate(empty_database)
    rows = documented.execute(
        "select cache_hit_rate, cache_hit_rate_fraction::text, avg_query_ms::text "
        "from session_metrics"
    ).fetchall()
    assert {row[0]: row[1:] for row in rows} == RATES
    set_aside = sum(twins.count(None) for twins in RATES.values())
    found = stats(empty_database, include_meta=True)
    assert found["meta"]["set_aside_values"] == set_aside
    assert found["total_sessions"] == len(RATES)


def test_a_writer_that_knows_only_the_documented_columns_still_works(
    documented: Connection, empty_database: str
) -> None:
    migrate(empty_database)
    write(documented)
    session_id = uuid4()
    documented.execute(
        "insert into sessions values (%s, 'bob', 'equity', '[\"tech\"]', true, now())", [session_id]
    )
    documented.execute(
        "insert into session_metrics values (default, %s, 'bob', 'equity', now(), 60, 1, '0.5', "
        "null, '[\"AAPL\"]', '{\"price\": 1}', false, true)",
        [session_id],
    )
    # Ids that the writer chooses are taken too.
    documented.execute(
        "insert into session_metrics values (77, %s, 'bob', 'equity', now(), 60)", [uuid4()]
    )
    with (
        documented.cursor() as cursor,
        cursor.copy(
            "copy session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, total_queries, cache_hit_rate, avg_query_time_ms, assets_analyzed, "
            "query_type_summary, completed_normally, abandoned) from stdin"
        ) as copy,
    ):
        for number in range(20):
            copy.write_row(
                (
                    uuid4(),
                    f"user {number % 3}",
                    "macro",
                    "2020-01-01Z" if number == 0 else "yesterday",
                    5,
                    2,
                    "0.5",
                    None,
                    '["GOLD"]',
                    '{"price": 2}',
                    False,
                    False,
                )
            )
    found = check_figures(empty_database)
    assert found["session_type_breakdown"] == {"macro": 19, "equity": 3}
    assert found["popular_tags"] == [{"tag": "tech", "count": 2}, {"tag": "growth", "count": 1}]
    assert found["archived_sessions"] == 2


def test_tables_with_columns_of_the_application_s_own_keep_them(
    documented: Connection, empty_database: str
) -> None:
    documented.execute(
        "alter table sessions add device text not null default 'phone', "
        "add expires_at timestamptz not null default now() + interval '1 hour', "
        "add created_at timestamptz not null default '2020-01-01Z'"
    )
    documented.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    migrate(empty_database)
    assert value(documented, "select device from sessions") == "phone"
    assert value(documented, "select created_at = '2020-01-01Z' from sessions")
    assert check_figures(empty_database)["active_sessions"] == 1


# From every earlier version ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "is_documented_ddl"),
    spread(product(EVERY_VERSION[:-1], (False, True)), 3),
)
def test_rows_of_every_earlier_version_count_and_fold_after_the_last(
    empty_database: str, marts: tuple[Mart, ...], version: int, is_documented_ddl: bool
) -> None:
    with connected(empty_database) as connection:
        if is_documented_ddl:
            connection.execute(DOCUMENTED_DDL.encode())
            write(connection, "ann")
        applied = migrate(empty_database, up_to=version)
        assert [step.version for step in applied] == EVERY_VERSION[:version]
        kept = write(connection, "ann")
        gone = write(connection, "bob", "macro")
        if version >= 3:
            fold_as_it_was(empty_database, marts)
        connection.execute("delete from session_metrics where session_id = %s", [gone])
        connection.execute(
            "update session_metrics set total_queries = 8, session_type = 'macro' "
            "where session_id = %s",
            [kept],
        )
        applied = migrate(empty_database)
        assert [step.version for step in applied] == EVERY_VERSION[version:]
        write(connection, None)
    before = check_figures(empty_database)
    assert before["total_sessions"] == 2 + is_documented_ddl
    build(empty_database, marts, "after")
    assert check_figures(empty_database) == before
    with connected(empty_database) as connection:
        counted = connection.execute(
            "select sum(sessions), sum(queries), sum(archived_sessions) "
            "from marts.daily_session_stats"
        ).fetchone()
        assert counted == (
            value(connection, "select count(*) from session_metrics"),
            value(connection, "select sum(total_queries) from session_metrics"),
            value(connection, "select count(*) from sessions where is_archived"),
        )


# In another schema ------------------------------------------------------------------------------

SCHEMAS = ["app", "App Data", 'quo"ted', "analytics"]


@pytest.mark.parametrize("is_documented_ddl", [False, True])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_tables_may_be_in_any_schema(
    empty_database: str, schema: str, is_documented_ddl: bool
) -> None:
    with connected(empty_database, schema) as connection:
        # Tables of the same name in public are none of ours.
        connection.execute("create table public.sessions (id text)")
        if is_documented_ddl:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
            connection.execute(DOCUMENTED_DDL.encode())
            write(connection)
        migrate(empty_database, schema)
        write(connection, "bob", "macro")
        connection.execute(
            "insert into sessions (id, user_id, type, assets, expires_at) "
            "values (gen_random_uuid(), 'ann', 'equity', '[\"TSLA\"]', now() - interval '1 s'), "
            "(gen_random_uuid(), 'ann', 'equity', '[\"TSLA\"]', now() + interval '1 h')"
        )
        # A caller's own path is of no importance.
        connection.execute("set search_path to public")
        assert connection.execute(
            "select archived, quarantined from analytics.archive_expired_sessions(10)"
        ).fetchone() == (1, 0)
    found = check_figures(empty_database, schema)
    assert found["total_sessions"] == found["archived_sessions"] == 2 + is_documented_ddl
    assert found["active_sessions"] == 1
    assert {"symbol": "TSLA", "count": 1} in found["top_assets"]
    assert uninstall(empty_database)
    with connected(empty_database, schema) as connection:
        assert value(connection, "select count(*) from sessions") == 3 + is_documented_ddl


def test_nothing_of_an_installation_elsewhere_refers_to_public(empty_database: str) -> None:
    migrate(empty_database, "App Data")
    with connected(empty_database) as connection:
        definitions = [
            row[0]
            for row in connection.execute(
                """
                select pg_get_functiondef(pg_proc.oid) from pg_proc
                where pronamespace = 'analytics'::regnamespace and prokind <> 'a'
                union all
                select pg_get_viewdef(oid) from pg_class
                where relnamespace in ('analytics'::regnamespace, 'marts'::regnamespace)
                    and relkind = 'v'
                union all
                select pg_get_triggerdef(oid) from pg_trigger
                union all
                select pg_get_constraintdef(oid) from pg_constraint
                union all
                select indexdef from pg_indexes where schemaname in ('analytics', 'marts')
                """
            )
        ]
        assert len(definitions) > 50
        assert [text for text in definitions if re.search(r"\bpublic\b", text)] == []
        definer = connection.execute(
            "select proname, proconfig from pg_proc where prosecdef "
            "and pronamespace = 'analytics'::regnamespace"
        ).fetchall()
        assert definer
        for name, config in definer:
            assert 'search_path="App Data", pg_temp' in config, name
        # What public holds can go, as it may in a hardened database.
        connection.execute("drop schema public cascade")
    with connected(empty_database, "App Data") as connection:
        write(connection)
    assert check_figures(empty_database, "App Data")["total_sessions"] == 1


# Who migrates -----------------------------------------------------------------------------------


def test_of_eight_processes_at_once_each_migration_is_applied_by_one(empty_database: str) -> None:
    program = (
        "import sys; from fiml.sessions.migrations import migrate; "
        "print(*(step.version for step in migrate(sys.argv[1])))"
    )
    with connected(empty_database) as connection:
        # Nobody begins before all of them are there.
        connection.execute("select pg_advisory_lock(%s)", [migrations._LOCK_KEY])
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, empty_database], stdout=subprocess.PIPE, text=True
            )
            for _ in range(8)
        ]
        waiting = 0
        while waiting < 8 and all(process.poll() is None for process in processes):
            waiting = value(
                connection,
                "select count(*) from pg_locks where locktype = 'advisory' and not granted "
                "and database = (select oid from pg_database where datname = current_database())",
            )
        connection.execute("select pg_advisory_unlock(%s)", [migrations._LOCK_KEY])
        said = [process.communicate()[0].split() for process in processes]
        assert waiting == 8
        assert [process.returncode for process in processes] == [0] * 8
        assert sorted(int(version) for versions in said for version in versions) == EVERY_VERSION
        found = connection.execute("select version from analytics.migrations order by 1").fetchall()
        assert [row[0] for row in found] == EVERY_VERSION


def test_an_owner_who_is_no_superuser_can_install_and_write(
    make_database: Callable[..., str], marts: tuple[Mart, ...]
) -> None:
    conninfo = make_database()
    role = f"owner_{uuid4().hex}"
    with connected(conninfo) as connection:
        name = value(connection, "select current_database()")
        connection.execute(
            sql.SQL("create role {} login password 'owner'").format(sql.Identifier(role))
        )
        try:
            connection.execute(
                sql.SQL("alter database {} owner to {}").format(
                    sql.Identifier(name), sql.Identifier(role)
                )
            )
            own = make_conninfo(conninfo, user=role, password="owner")
            with connected(own) as owner:
                owner.execute(DOCUMENTED_DDL.encode())
                write(owner)
                migrate(own)
                write(owner)
            build(own, marts)
            assert check_figures(own)["total_sessions"] == 2
            assert uninstall(own)
            assert migrate(own)
        finally:
            connection.execute(
                sql.SQL("alter database {} owner to current_user").format(sql.Identifier(name))
            )
            connection.execute(
                sql.SQL("reassign owned by {} to current_user").format(sql.Identifier(role))
            )
            connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_writer_of_any_role_needs_nothing_in_our_schemas(migrated_database: str) -> None:
    role = f"app_{uuid4().hex}"
    with connected(migrated_database) as connection:
        connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        try:
            connection.execute(
                sql.SQL(
                    "grant select, insert, update, delete on sessions, session_metrics to {}"
                ).format(sql.Identifier(role))
            )
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            kept = write(connection)
            gone = write(connection, "bob")
            connection.execute("update session_metrics set total_queries = 4 where user_id = 'ann'")
            connection.execute("update sessions set type = 'macro' where id = %s", [kept])
            connection.execute("delete from session_metrics where session_id = %s", [gone])
            connection.execute("delete from sessions where id = %s", [gone])
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("select from analytics.session_changes")
            connection.execute("reset role")
        finally:
            connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    assert check_figures(migrated_database)["total_queries"] == 4


def test_a_migration_waits_for_writers_and_counts_what_they_wrote(
    documented: Connection, empty_database: str
) -> None:
    with connected(empty_database) as writer, writer.transaction():
        write(writer)
        migrating = Migrating(empty_database)
        migrating.start()
        migrating.wait_for_lock(documented, "sessions")
        # The writer goes on to the other table meanwhile.
        write(writer, "bob")
    assert migrating.result() == EVERY_VERSION
    assert check_figures(empty_database)["total_sessions"] == 2


def test_a_migration_that_meets_a_writer_in_a_deadlock_starts_again(
    documented: Connection, empty_database: str
) -> None:
    write(documented)
    with connected(empty_database) as writer, writer.transaction():
        # It is the migration that finds the deadlock: a process looks for one once, when it has
        # waited for its deadlock_timeout, and by then the writer has to wait too.
        writer.execute("set local deadlock_timeout = '5min'")
        writer.execute("update session_metrics set total_queries = 5")
        migrating = Migrating(empty_database, options="-c deadlock_timeout=3s")
        migrating.start()
        migrating.wait_for_lock(documented, "session_metrics")
        writer.execute("update sessions set type = 'macro'")
    assert migrating.result() == EVERY_VERSION
    assert check_figures(empty_database)["total_queries"] == 5


# When it goes wrong -----------------------------------------------------------------------------


def test_a_migration_that_fails_leaves_nothing_of_itself_and_can_be_repeated(
    empty_database: str,
) -> None:
    with connected(empty_database) as connection:
        migrate(empty_database, up_to=2)
        connection.execute("create table marts.daily_user_stats (theirs text)")
        objects = own_objects(connection)
        with pytest.raises(errors.DuplicateTable, match="daily_user_stats"):
            migrate(empty_database)
        assert own_objects(connection) == objects
        assert installed_version(connection) == 2
        connection.execute("drop table marts.daily_user_stats")
        write(connection)
        assert [step.version for step in migrate(empty_database)] == EVERY_VERSION[2:]
    assert check_figures(empty_database)["total_sessions"] == 1


def test_a_first_migration_that_fails_leaves_the_application_s_tables_as_they_were(
    documented: Connection, empty_database: str
) -> None:
    documented.execute("alter table session_metrics add recorded_at text")
    documented.execute("create view theirs as select id from session_metrics")
    write(documented)
    tables = "select * from information_schema.columns where table_schema = 'public'"
    before = documented.execute(tables).fetchall()
    with pytest.raises(psycopg.Error, match="view"):
        migrate(empty_database)
    assert documented.execute(tables).fetchall() == before
    assert installed_version(documented) == 0
    # A start that failed is nothing to uninstall around.
    uninstall(empty_database)
    assert {row[0] for row in documented.execute("select nspname from pg_namespace")}.isdisjoint(
        {"analytics", "marts"}
    )


def test_an_applied_migration_that_reads_differently_is_an_error(migrated_database: str) -> None:
    with connected(migrated_database) as connection:
        connection.execute("update analytics.migrations set checksum = 'other' where version = 2")
    with pytest.raises(SchemaVersionError, match=r"migration 2 \(change_feed\) was applied"):
        migrate(migrated_database)


def test_a_database_of_a_newer_package_is_an_error(migrated_database: str) -> None:
    with connected(migrated_database) as connection:
        connection.execute(
            "insert into analytics.migrations (version, name, checksum) values (%s, 'new', 'x')",
            [LAST + 1],
        )
    with pytest.raises(SchemaVersionError, match=f"at version {LAST + 1}, .* install the newer"):
        migrate(migrated_database)
    with pytest.raises(SchemaVersionError, match=f"at version {LAST + 1}, .* install the newer"):
        stats(migrated_database)


def test_another_source_schema_than_the_installed_one_is_an_error_and_makes_nothing(
    migrated_database: str,
) -> None:
    with pytest.raises(SchemaVersionError, match="for source schema 'public', not 'typo'; set SES"):
        migrate(migrated_database, "typo")
    with pytest.raises(SchemaVersionError, match="for source schema 'public', not 'typo'; set SES"):
        stats(migrated_database, "typo")
    with connected(migrated_database) as connection:
        assert value(connection, "select to_regnamespace('typo')") is None


@pytest.mark.parametrize("version", [None, *EVERY_VERSION[:-1]])
def test_a_start_against_an_older_database_says_what_to_do(
    empty_database: str, version: int | None
) -> None:
    if version is not None:
        migrate(empty_database, up_to=version)
    with pytest.raises(SchemaVersionError, match="run `session-analytics migrate`"):
        stats(empty_database)


# And out again ----------------------------------------------------------------------------------


def test_uninstalling_leaves_the_tables_writable_and_nothing_of_ours(
    documented: Connection, empty_database: str, marts: tuple[Mart, ...]
) -> None:
    migrate(empty_database)
    write(documented)
    build(empty_database, marts)
    assert uninstall(empty_database)
    rest = {name for name in own_objects(documented) if re.search(r"\b(analytics|marts)\b", name)}
    assert rest == set()
    assert value(documented, "select count(*) from pg_trigger where not tgisinternal") == 0
    write(documented)
    documented.execute("truncate session_metrics")
    assert not uninstall(empty_database)
    with pytest.raises(SchemaVersionError):
        stats(empty_database)


def test_uninstalling_what_was_never_installed_is_harmless(empty_database: str) -> None:
    with connected(empty_database) as connection:
        connection.execute("create schema marts create table daily_session_stats (theirs text)")
        objects = own_objects(connection)
        assert not uninstall(empty_database)
        assert own_objects(connection) == objects


def test_uninstalling_leaves_what_others_made_in_schemas_of_our_names(
    empty_database: str,
) -> None:
    with connected(empty_database) as connection:
        connection.execute("create schema marts create table revenue (amount integer)")
        connection.execute("insert into marts.revenue values (1)")
        connection.execute("create schema analytics create view experiments as select 2 as id")
        migrate(empty_database)
        connection.execute("create view marts.built_on_ours as table marts.daily_session_stats")
        assert uninstall(empty_database)
        found = {
            row[0]
            for row in connection.execute(
                "select oid::regclass::text from pg_class where relnamespace in "
                "('analytics'::regnamespace, 'marts'::regnamespace)"
            )
        }
        assert found == {"marts.revenue", "analytics.experiments"}
        assert value(connection, "select amount from marts.revenue") == 1


def test_installing_again_after_uninstalling_counts_everything(
    empty_database: str, marts: tuple[Mart, ...]
) -> None:
    migrate(empty_database)
    with connected(empty_database) as connection:
        write(connection)
        build(empty_database, marts)
        uninstall(empty_database)
        write(connection, "bob", "macro")
        connection.execute("update session_metrics set total_queries = 20 where user_id = 'ann'")
        assert [step.version for step in migrate(empty_database)] == EVERY_VERSION
        write(connection, None)
    before = check_figures(empty_database)
    assert (before["total_sessions"], before["total_queries"]) == (3, 26)
    build(empty_database, marts)
    assert check_figures(empty_database) == before


# What the indexes are for -----------------------------------------------------------------------

PARAMETERS = {
    "as_of": "timestamptz",
    "days": "integer",
    "user_id": "text",
    "session_type": "text",
    "include_meta": "boolean",
    "is_source_only": "boolean",
    "etag": "bigint",
    "since": "timestamptz",
    "until": "timestamptz",
}
LARGE_TABLES = {"sessions", "session_metrics", "session_changes", "session_totals"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def generic_plan(
    connection: Connection, statement: str, given: dict[str, object]
) -> list[dict[str, Any]]:
    """The nodes of the plan that a pooled connection of the reader keeps for a statement."""
    numbered = re.sub(
        r"%\((\w+)\)s", lambda found: f"${list(PARAMETERS).index(found[1]) + 1}", statement
    )
    assert "%" not in numbered
    connection.execute("deallocate all")
    connection.execute(f"prepare reading ({', '.join(PARAMETERS.values())}) as {numbered}".encode())
    row = connection.execute(
        sql.SQL("explain (format json, costs off) execute reading ({})").format(
            sql.SQL(", ").join(sql.Literal(given.get(name)) for name in PARAMETERS)
        )
    ).fetchone()
    assert row is not None
    explained = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return list(nodes(explained[0]["Plan"]))


@pytest.fixture(scope="module")
def large_database(server: Any, marts: tuple[Mart, ...]) -> Iterator[Connection]:
    """Fifty thousand sessions over a hundred days, migrated, built and added to; only to be read.

    Of a user with two thousand of them, who has totals of his own, and of 2500 others.
    """
    name = server.create_database()
    conninfo = server.conninfo(name)
    with ExitStack() as stack:
        stack.callback(server.drop_database, name)
        connection = stack.enter_context(connected(conninfo))
        connection.execute(DOCUMENTED_DDL.encode())
        connection.execute(
            """
            insert into sessions (id, user_id, type, tags, is_archived, archived_at)
            select
                gen_random_uuid(),
                case when mod(number, 25) = 0 then 'heavy' else 'user ' || mod(number, 2500) end,
                (array['equity', 'crypto', 'macro'])[1 + mod(number, 3)], '["tech"]',
                mod(number, 20) <> 1, now() - number * interval '170 seconds'
            from generate_series(1, 50000) as number
            """
        )
        connection.execute(
            """
            insert into session_metrics (
                session_id, user_id, session_type, created_at, duration_seconds, total_queries,
                assets_analyzed, query_type_summary
            )
            select
                id, user_id, type, archived_at - interval '1 hour', 60, 3, '["AAPL"]',
                '{"price": 3}'
            from sessions
            """
        )
        migrate(conninfo)
        connection.execute(
            "update sessions set expires_at = now() + interval '1 h' where not is_archived"
        )
        connection.execute("update serving.layout set heavy_user_sessions = 2000")
        build(conninfo, marts)
        # The feed is long, and few of it unseen.
        connection.execute(
            "update session_metrics set total_queries = 4 where tags is not null "
            "and created_at < now() - interval '80 days'"
        )
        build(conninfo, marts, "another")
        write(connection, "user 7")
        connection.execute("vacuum analyze")
        connection.execute("set jit = off")
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.prepare_threshold = None
        yield connection


def expected_indexes(statement: str, *, has_user: bool) -> list[set[str]]:
    """Of each set one index is used."""
    if statement == "active":
        return [{"idx_sessions_open"}]
    if has_user:
        metrics, archivals = {"idx_session_metrics_user_created"}, {"idx_sessions_user_archived_at"}
    else:
        metrics = {"idx_session_metrics_created_at", "idx_session_metrics_type_created"}
        archivals = {"idx_sessions_archived_at"}
    if statement == "user_window":
        return [metrics, archivals, {"idx_sessions_user_open"}]
    return [metrics, archivals] if statement in ("stats", "meta") else [metrics]


def statements(*, has_user: bool, has_type: bool) -> dict[str, str]:
    """All that the reader asks without a function, by what it answers."""
    found = {
        "session_metrics_rows": queries.session_metrics_rows(has_user=has_user, has_type=has_type)
    }
    if has_user:
        return found | {"user_window": queries.USER_WINDOW[has_type, True, True]}
    question = queries.mart_question(has_type=has_type)
    return found | {name: getattr(question, name) for name in question.__slots__}


def test_no_read_scans_a_source_table(large_database: Connection) -> None:
    wrong = []
    for user_id in ("user 7", None):
        for session_type in ("macro", None):
            given = {
                "days": 1 if user_id is None else 30,
                "user_id": user_id,
                "session_type": session_type,
                "include_meta": True,
                "is_source_only": False,
                "since": datetime.now(UTC) - timedelta(days=1 if user_id is None else 30),
                "until": datetime.now(UTC),
            }
            for name, statement in statements(
                has_user=user_id is not None, has_type=session_type is not None
            ).items():
                plan = generic_plan(large_database, statement, given)
                scanned = {
                    node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"
                }
                used = {node["Index Name"] for node in plan if "Index Name" in node}
                if scanned & LARGE_TABLES or not all(
                    used & wanted for wanted in expected_indexes(name, has_user=user_id is not None)
                ):
                    wrong.append((name, user_id, session_type, scanned, used))
    assert wrong == []


def rows_read(connection: Connection) -> Counter[str]:
    """What the transaction under way has read so far, as the server counts it."""
    read: Counter[str] = Counter()
    for table, scans, rows in connection.execute(
        "select relname, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables "
        "where relname = any(%s)",
        [list(LARGE_TABLES)],
    ):
        read[f"{table} scanned"] += scans
        read[table] += rows
    return read


def test_a_window_of_any_length_is_a_few_rows_of_each_table(large_database: Connection) -> None:
    now, then = large_database.execute(
        "select now(), now() - interval '31 h 2 min 1 us'"
    ).fetchone()
    # What is dated after the end of a window has to be taken away row by row.
    beyond = value(
        large_database, "select count(*) from session_metrics where created_at >= %s", then
    )
    wrong = []
    for user_id, session_type in ((None, None), (None, "macro"), ("heavy", None)):
        for days in (1, 2, 7, 30, 90):
            for as_of in (now, then):
                with large_database.transaction():
                    before = rows_read(large_database)
                    question = {
                        "user_id": user_id,
                        "session_type": session_type,
                        "days": days,
                        "as_of": as_of,
                        # With it, those at the window's edges are looked at once more.
                        "include_meta": False,
                        "etag": None,
                    }
                    assert large_database.execute(queries.WINDOW, question).fetchall()
                    read = rows_read(large_database) - before
                most = 50 + (beyond if as_of == then else 0)
                allowed = {
                    "session_metrics": most,
                    "sessions": most,
                    "session_changes": 10,
                    "session_totals": 80,
                }
                if any(n > allowed.get(table, 0) for table, n in read.items()):
                    wrong.append((user_id, session_type, days, as_of, read))
    assert wrong == []
