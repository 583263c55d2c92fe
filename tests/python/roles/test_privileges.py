"""Who may do what with what, as the catalogue has it, compared with the file beside this one.

`PRIVILEGES=write .venv/bin/python -m pytest tests/python/roles/test_privileges.py` writes it anew.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from roles.installation import Installation, one, privileges
from spreading import every
from warehouse.application import leave_expired_sessions, record_metrics

from fiml.sessions.migrations import migrate, uninstall
from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.builds import build

EXPECTED = Path(__file__).with_name("privileges.txt")
# dbt makes them, with the first build.
VIEW = "view marts."
CATALOGUE = """
select
    (select array_agg(xmin::text order by oid) from pg_class where relpersistence = 'p')
    || (select array_agg(xmin::text order by oid) from pg_proc)
    || (select array_agg(xmin::text order by oid) from pg_namespace where not nspname ^@ 'pg_')
"""


def expected() -> str:
    return EXPECTED.read_text(encoding="utf-8")


def without_views(matrix: str) -> str:
    return "".join(line for line in matrix.splitlines(keepends=True) if not line.startswith(VIEW))


def test_privileges_after_a_build_are_those_that_are_written_down(
    installation: Installation,
) -> None:
    with installation.connected() as connection:
        record_metrics(connection, 20)
        leave_expired_sessions(connection, 3)
    assert build(installation.settings(Purpose.BUILDER)).succeeded
    with installation.connected() as connection:
        found = privileges(connection)
    if os.environ.get("PRIVILEGES") == "write":
        EXPECTED.write_text(found, encoding="utf-8")
    assert found == expected()


def test_another_build_changes_neither_privileges_nor_the_catalogue(
    installation: Installation,
) -> None:
    builder = installation.settings(Purpose.BUILDER)
    build(builder)
    with installation.connected() as connection:
        catalogue = one(connection, CATALOGUE)
        for from_scratch in (False, True):
            record_metrics(connection, 5)
            assert build(builder, from_scratch=from_scratch).succeeded
            assert privileges(connection) == expected()
            assert one(connection, CATALOGUE) == catalogue


def test_migrating_again_changes_neither_privileges_nor_the_catalogue(
    installation: Installation,
) -> None:
    build(installation.settings(Purpose.BUILDER))
    with installation.connected() as connection:
        catalogue = one(connection, CATALOGUE)
        assert migrate(installation.superuser) == []
        assert privileges(connection) == expected()
        assert one(connection, CATALOGUE) == catalogue


def test_a_migration_from_scratch_gives_the_same_and_so_does_the_next(
    make_database: Callable[..., str],
) -> None:
    database = Installation("", make_database())
    for _ in range(2):
        migrate(database.superuser)
        with database.connected() as connection:
            assert privileges(connection) == without_views(expected())
            uninstall(database.superuser)
            # Tables that are there already stay whose they are.
            connection.execute("drop table sessions, session_metrics")


@every(2)
def test_views_that_were_built_before_there_were_roles_become_the_builders(
    make_database: Callable[..., str],
) -> None:
    database = Installation("", make_database())
    migrate(database.superuser)
    with database.connected() as connection:
        connection.execute("alter table analytics.roles rename to roles_to_come")
        connection.execute("create table analytics.roles (like analytics.roles_to_come)")
        build(Settings(conninfo=database.superuser))
        connection.execute("drop table analytics.roles")
        connection.execute("alter table analytics.roles_to_come rename to roles")
        assert privileges(connection) != expected()
        migrate(database.superuser)
        assert privileges(connection) == expected()


@pytest.mark.parametrize("purpose", Purpose)
def test_no_role_may_more_in_the_cluster_than_be_a_member(
    installation: Installation, purpose: Purpose
) -> None:
    with installation.connected() as connection:
        assert not one(
            connection,
            """
            select
                rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
                or rolcanlogin
            from analytics.roles
            inner join pg_roles on roles.role_name = pg_roles.rolname
            where roles.purpose = %s
            """,
            purpose,
        )
