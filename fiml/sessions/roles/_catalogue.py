"""What the catalogue says of roles, and how statements are run whose names it has quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row

from fiml.sessions.roles._names import Purpose

__all__ = [
    "MARK",
    "Connection",
    "KnownRole",
    "known_roles",
    "query",
    "query_one",
    "roles_in_use",
    "run_all",
    "settings_of",
]

Connection = psycopg.Connection[Any]

# How a role that this package made says which database it was made for.
MARK: Final = "session-analytics, database "


@dataclass(frozen=True, slots=True)
class KnownRole:
    """A role that a database names as its own."""

    purpose: Purpose
    name: str
    is_made_here: bool


def roles_in_use(connection: Connection) -> dict[Purpose, str]:
    """The roles that the installation in this database has, by purpose.

    Raises:
        psycopg.Error: the database is not migrated, or the server refused.
    """
    rows = connection.execute(
        """
        select roles.purpose, roles.role_name
        from analytics.roles
        inner join pg_roles on roles.role_name = pg_roles.rolname
        """
    ).fetchall()
    return {Purpose(purpose): name for purpose, name in rows}


def known_roles(connection: Connection) -> list[KnownRole]:
    """The roles that the database names and that exist; none where it knows of no roles yet.

    Raises:
        psycopg.Error: the server refused.
    """
    if not query_one(connection, "select to_regclass('analytics.roles') is not null as it").it:
        return []
    return [
        KnownRole(Purpose(row.purpose), row.role_name, row.is_made_here)
        for row in query(
            connection,
            """
            select roles.purpose, roles.role_name, roles.is_made_here
            from analytics.roles
            inner join pg_roles on roles.role_name = pg_roles.rolname
            """,
        )
    ]


def settings_of(connection: Connection, role: str) -> set[str]:
    """What a role has been told in this database, each as `name=value`."""
    return {
        setting for row in query(connection, _SETTINGS_OF_ROLE, [role]) for setting in row.setconfig
    }


_SETTINGS_OF_ROLE: Final = """
select pg_db_role_setting.setconfig
from pg_db_role_setting
inner join pg_database on pg_db_role_setting.setdatabase = pg_database.oid
where
    pg_database.datname = current_database()
    and pg_db_role_setting.setrole = to_regrole(quote_ident(%s))
"""


def run_all(connection: Connection, statements: str, parameters: Mapping[str, object]) -> None:
    """Run the statements that a query makes, whose names the server has quoted."""
    for row in connection.execute(statements, parameters).fetchall():
        connection.execute(str(row[0]).encode())


def query(connection: Connection, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def query_one(connection: Connection, statement: str, parameters: Sequence[object] = ()) -> Any:
    return query(connection, statement, parameters)[0]
