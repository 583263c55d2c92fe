"""Taking roles away, with everything that they have in a database."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from psycopg import errors, sql

from fiml.sessions.roles._catalogue import MARK, Connection, KnownRole, query, run_all
from fiml.sessions.roles._settings import unconfigure

__all__ = ["drop_left_roles", "remove_roles"]


def drop_left_roles(connection: Connection, database: str) -> None:
    """Drop the roles that were made for a database which was dropped since, all but those in use.

    Raises:
        psycopg.Error: the server refused.
    """
    for role in query(
        connection,
        "select rolname as name from pg_roles where shobj_description(oid, 'pg_authid') = %s",
        [MARK + database],
    ):
        with suppress(errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role.name)))


def remove_roles(
    connection: Connection, source_schema: str, roles: Iterable[KnownRole]
) -> list[str]:
    """Take from the roles what they have in this database, and drop those that were made for it.

    Args:
        connection: in a transaction, after everything of ours in the database is gone.
        source_schema: where the application's tables are.
        roles: what `known_roles` found before.

    Returns:
        Which ones stay although they were made here, and why, a line each.

    Raises:
        psycopg.Error: the server refused a statement.
    """
    notes = []
    database = connection.info.dbname
    for role in roles:
        run_all(
            connection,
            _TAKE_AWAY,
            {"role": role.name, "schema": source_schema, "is_made_here": role.is_made_here},
        )
        unconfigure(connection, database, role)
        if not role.is_made_here:
            continue
        try:
            with connection.transaction():
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role.name)))
        except errors.DependentObjectsStillExist:
            notes.append(f"Role {role.name} stays: it is still used, here or in another database.")
        except errors.InsufficientPrivilege:
            notes.append(f"Role {role.name} stays: this login may not drop it.")
    return notes


# The application's tables that a migration made, and schemas that hold what others made, go to who
# takes the rest out.
_TAKE_AWAY: Final = """
with source_tables as (
    select
        pg_class.oid,
        pg_class.relowner = to_regrole(quote_ident(%(role)s::text)) as is_owned,
        pg_class.oid::regclass::text as name
    from pg_class
    where
        pg_class.relnamespace = to_regnamespace(quote_ident(%(schema)s::text))
        and pg_class.relname in ('sessions', 'session_metrics')
)

select given.statement
from (
    select format('alter table %%s owner to current_user', source_tables.name) as statement
    from source_tables
    where source_tables.is_owned and %(is_made_here)s
    union all
    select format('revoke all on %%s from %%I', source_tables.name, %(role)s::text)
    from source_tables
    where not source_tables.is_owned
    union all
    select format('alter schema %%I owner to current_user', pg_namespace.nspname)
    from pg_namespace
    where
        pg_namespace.nspname in ('analytics', 'marts', 'serving')
        and pg_namespace.nspowner = to_regrole(quote_ident(%(role)s::text))
        and %(is_made_here)s
    union all
    select format('revoke all on schema %%I from %%I', pg_namespace.nspname, %(role)s::text)
    from pg_namespace
    where
        pg_namespace.nspname in ('analytics', 'marts', 'serving', %(schema)s::text)
        and pg_namespace.nspowner <> to_regrole(quote_ident(%(role)s::text))
        and exists (
            select from aclexplode(pg_namespace.nspacl) as given
            where given.grantee = to_regrole(quote_ident(%(role)s::text))
        )
    union all
    select format('revoke all on database %%I from %%I', pg_database.datname, %(role)s::text)
    from pg_database
    where
        pg_database.datname = current_database()
        and exists (
            select from aclexplode(pg_database.datacl) as given
            where given.grantee = to_regrole(quote_ident(%(role)s::text))
        )
) as given
"""
