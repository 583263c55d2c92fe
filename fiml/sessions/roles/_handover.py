"""Giving away what a migration made, so that no function runs with a superuser's rights."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from psycopg import errors, sql

from fiml.sessions.roles._catalogue import Connection, query_one, run_all

__all__ = ["BUILT_VIEWS", "hand_over", "hand_over_views", "join"]

_FIRST_WITH_MEMBERSHIP_OPTIONS: Final = 160_000


def join(connection: Connection, role: str) -> None:
    """Make the login a member: what it makes it hands over, and goes on using.

    Who makes a role may, from 16 on, let others use it, which is not yet being allowed to.
    """
    if _is_full_member(connection, role):
        return
    has_options = connection.info.server_version >= _FIRST_WITH_MEMBERSHIP_OPTIONS
    options = sql.SQL(" with inherit true, set true") if has_options else sql.SQL("")
    # Not with roles that somebody else made: then everything stays the login's.
    with suppress(errors.InsufficientPrivilege), connection.transaction():
        connection.execute(
            sql.SQL("grant {} to current_user{}").format(sql.Identifier(role), options)
        )


def _is_full_member(connection: Connection, role: str) -> bool:
    has_options = connection.info.server_version >= _FIRST_WITH_MEMBERSHIP_OPTIONS
    return bool(
        query_one(
            connection,
            "select pg_has_role(%s, 'usage') and pg_has_role(%s, %s) as it",
            [role, role, "set" if has_options else "member"],
        ).it
    )


def hand_over(connection: Connection, objects: Iterable[str], owner: str) -> None:
    """Give the owner what the login made: its functions must not run with a superuser's rights.

    What somebody else made stays theirs, the application's tables among it. So does everything
    where the login could not use it any more.
    """
    if _is_full_member(connection, owner):
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            run_all(connection, _HAND_OVER, {"owner": owner, "names": list(objects)})


# In this order: to own a table, a role must be allowed to make one in its schema.
_HAND_OVER: Final = """
with objects as (
    select
        pg_namespace.oid as schema_id,
        pg_namespace.nspname as schema_name,
        pg_class.oid::regclass::text as name,
        'table' as kind
    from pg_class
    inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
    where
        pg_namespace.nspname || '.' || pg_class.relname = any(%(names)s)
        and pg_class.relkind in ('r', 'p', 'v')
        and pg_class.relowner = to_regrole(quote_ident(current_user))
    union all
    select
        pg_namespace.oid as schema_id,
        pg_namespace.nspname as schema_name,
        pg_proc.oid::regprocedure::text as name,
        'routine' as kind
    from pg_proc
    inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
    where
        pg_namespace.nspname || '.' || pg_proc.proname = any(%(names)s)
        and pg_proc.proowner = to_regrole(quote_ident(current_user))
)

select given.statement
from (
    select
        1 as position,
        case
            when schemas.is_ours
                then format('alter schema %%I owner to %%I', schemas.schema_name, %(owner)s::text)
            when not has_schema_privilege(%(owner)s::name, schemas.schema_id, 'create')
                then format(
                    'grant usage, create on schema %%I to %%I', schemas.schema_name, %(owner)s::text
                )
        end as statement
    from (
        select distinct
            objects.schema_id,
            objects.schema_name,
            pg_namespace.nspowner = to_regrole(quote_ident(current_user))
                and objects.schema_name in ('analytics', 'marts', 'serving') as is_ours
        from objects
        inner join pg_namespace on objects.schema_id = pg_namespace.oid
    ) as schemas
    union all
    select
        2 as position,
        format('alter %%s %%s owner to %%I', objects.kind, objects.name, %(owner)s::text)
            as statement
    from objects
) as given
where given.statement is not null
order by given.position
"""


def hand_over_views(connection: Connection, builder: str, bi: str | None) -> None:
    """Give the builders the views that dbt made before there were any: they replace them."""
    if _is_full_member(connection, builder):
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            run_all(
                connection, _HAND_OVER_VIEWS, {"builder": builder, "bi": bi, "views": BUILT_VIEWS}
            )


BUILT_VIEWS: Final = ["dim_date", "dim_session_type", "dim_user", "fct_sessions"]
_HAND_OVER_VIEWS: Final = """
select given.statement
from pg_class
cross join lateral (
    values
    (
        case
            when not has_table_privilege(%(bi)s::name, pg_class.oid, 'select')
                then format('grant select on %%s to %%I', pg_class.oid::regclass, %(bi)s::text)
        end
    ),
    (format('alter view %%s owner to %%I', pg_class.oid::regclass, %(builder)s::text))
) as given (statement)
where
    pg_class.relnamespace = 'marts'::regnamespace
    and pg_class.relname = any(%(views)s)
    and pg_class.relkind = 'v'
    and pg_class.relowner = to_regrole(quote_ident(current_user))
    and given.statement is not null
"""
