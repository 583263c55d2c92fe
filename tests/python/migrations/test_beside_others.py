"""Beside other migrations and writers, with lesser logins, and when it fails."""

import subprocess
import sys
from collections.abc import Callable
from uuid import uuid4

import psycopg
import pytest
from migrations.ground import (
    DOCUMENTED_DDL,
    EVERY_VERSION,
    Connection,
    Migrating,
    build,
    check_figures,
    connected,
    own_objects,
    value,
    write,
)
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from fiml.sessions import migrations
from fiml.sessions.migrations import installed_version, migrate, uninstall
from fiml.warehouse.project import Mart


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
