"""From nothing: every migration, once, and what it leaves."""

import re

import pytest
from migrations.ground import (
    DOCUMENTED_DDL,
    EVERY_VERSION,
    LAST,
    check_figures,
    connected,
    own_objects,
    value,
    write,
)
from psycopg import sql

from fiml.sessions.migrations import installed_version, migrate, uninstall


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
