"""The database roles of an installation: made where that is allowed, used where they are there.

Roles belong to a cluster and an installation to one database of it, so their names begin with the
database's. They are groups that cannot log in; an operator makes logins members of them. What each
may do is in `0007_roles.sql`. Why all this: docs/decisions/0008-roles.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import psycopg
from psycopg import errors, sql
from psycopg.rows import namedtuple_row

from fiml.errors import RoleError

__all__ = [
    "SETTINGS_OF_LOGINS",
    "KnownRole",
    "Purpose",
    "default_prefix",
    "drop_left_roles",
    "known_roles",
    "remove_roles",
    "role_names",
    "roles_in_use",
    "set_up_roles",
]


class Purpose(StrEnum):
    """What a role is for."""

    OWNER = "owner"
    APP = "app"
    BUILDER = "builder"
    READER = "reader"
    BI = "bi"


# PostgreSQL takes these from the role that logs in, and from no group that it is a member of.
SETTINGS_OF_LOGINS: Final[Mapping[Purpose, Mapping[str, str]]] = {
    Purpose.OWNER: {},
    Purpose.APP: {
        "lock_timeout": "30s",
        "statement_timeout": "5min",
        "idle_in_transaction_session_timeout": "1min",
    },
    Purpose.BUILDER: {
        "default_transaction_isolation": "read committed",
        "jit": "off",
        # A build that is killed leaves no statement and no lock behind.
        "client_connection_check_interval": "1s",
        # A build may have to wait for a rebuild of the same mart.
        "lock_timeout": "30min",
        "statement_timeout": "6h",
        "idle_in_transaction_session_timeout": "5min",
    },
    Purpose.READER: {
        "default_transaction_read_only": "on",
        "jit": "off",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
    },
    Purpose.BI: {
        "default_transaction_read_only": "on",
        "statement_timeout": "10min",
        "idle_in_transaction_session_timeout": "10min",
    },
}

_Connection = psycopg.Connection[Any]

_LONGEST_PREFIX: Final = 63 - max(map(len, Purpose))
# How a role that this package made says which database it was made for.
_MARK: Final = "session-analytics, database "
_FIRST_WITH_MEMBERSHIP_OPTIONS: Final = 160_000


def default_prefix(database: str) -> str:
    """What the names of a database's roles begin with, unless an operator says otherwise.

    The database's name, so that two installations in one cluster never share a role. One that is
    too long for that, or that PostgreSQL reserves, is digested.
    """
    prefix = f"{database}_analytics_"
    if len(prefix.encode()) > _LONGEST_PREFIX or prefix.startswith("pg_"):
        return f"session_analytics_{sha256(database.encode()).hexdigest()[:16]}_"
    return prefix


def role_names(database: str, prefix: str = "") -> dict[Purpose, str]:
    """The names of the roles of an installation; an empty prefix is the database's own.

    Raises:
        RoleError: no role can have a name that begins so.
    """
    begin = prefix or default_prefix(database)
    if len(begin.encode()) > _LONGEST_PREFIX or begin.startswith("pg_"):
        raise RoleError(
            f"no role's name can begin with {begin!r}: SESSION_ANALYTICS_ROLE_PREFIX has at most "
            f"{_LONGEST_PREFIX} bytes and does not begin with pg_"
        )
    return {purpose: f"{begin}{purpose}" for purpose in Purpose}


def roles_in_use(connection: _Connection) -> dict[Purpose, str]:
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


def set_up_roles(
    connection: _Connection,
    prefix: str,
    own_objects: Iterable[str],
    own_source_tables: Iterable[str] = (),
) -> list[str]:
    """Make the roles that are missing and give each what it needs; write only what is missing.

    What is open to PUBLIC by default is closed. A login that may make no roles goes on without
    them, and does everything itself.

    Args:
        connection: of the login that migrates, in a transaction, with the source schema first in
            `search_path`.
        prefix: what the names begin with; empty takes the database's own.
        own_objects: the tables, views and functions that migrations make, qualified.
        own_source_tables: those of the application's tables that this migration made, qualified.

    Returns:
        What could not be done, a line each.

    Raises:
        RoleError: a role of that name belongs to another installation, or may do too much.
        psycopg.Error: the server refused a statement.
    """
    connection.execute("select analytics.close_to_public()")
    login = _one(connection, _LOGIN)
    wanted = _wanted(connection, login.database, prefix)
    made = _make(connection, login.database, wanted.values()) if login.may_make else frozenset()
    _remember(connection, login.database, wanted, made)
    roles = roles_in_use(connection)
    notes = list(_told_missing(login.name, wanted, roles))
    for purpose in (Purpose.OWNER, Purpose.BUILDER):
        if purpose in roles:
            _join(connection, roles[purpose])
    for purpose, role in roles.items():
        _open_database(connection, login.database, purpose, role)
        refused = _all(
            connection, "select analytics.grant_privileges(%s, %s) as it", [purpose, role]
        )
        notes += [f"{login.name} could not grant {row.it} to {role}." for row in refused]
    if Purpose.OWNER in roles:
        for objects in (own_objects, own_source_tables):
            _hand_over(connection, objects, roles[Purpose.OWNER])
    if Purpose.BUILDER in roles:
        _hand_over_views(connection, roles[Purpose.BUILDER], roles.get(Purpose.BI))
    refused_settings = [
        role
        for purpose, role in _logins(connection, roles)
        if not _configure(connection, login.database, role, SETTINGS_OF_LOGINS[purpose])
    ]
    if refused_settings:
        notes.append(
            f"{login.name} may not change the settings of {', '.join(refused_settings)}: timeouts "
            "and the like stay the server's (docs/security.md lists them)."
        )
    return notes


_LOGIN: Final = """
select
    rolname as name,
    rolsuper or rolcreaterole as may_make,
    current_database() as database
from pg_roles
where rolname = current_user
"""


def _wanted(connection: _Connection, database: str, prefix: str) -> dict[Purpose, str]:
    wanted = role_names(database, prefix)
    # A copy of a database, or one that got another name, keeps its roles.
    kept = {
        Purpose(row.purpose): str(row.role_name)
        for row in _all(connection, "select purpose, role_name from analytics.roles")
    }
    if prefix and any(wanted[purpose] != role for purpose, role in kept.items()):
        raise RoleError(
            f"this database has its roles already ({', '.join(sorted(kept.values()))}), and their "
            f"names do not begin with {prefix!r}; set SESSION_ANALYTICS_ROLE_PREFIX to what they do"
        )
    return {**wanted, **kept}


def _make(connection: _Connection, database: str, names: Iterable[str]) -> frozenset[str]:
    """Make those that are not there, and return them."""
    made = set()
    for name in names:
        if _one(connection, "select to_regrole(quote_ident(%s)) is not null as it", [name]).it:
            continue
        role, mark = sql.Identifier(name), sql.Literal(_MARK + database)
        # Another database's migration may make it at this moment.
        with suppress(errors.DuplicateObject, errors.UniqueViolation), connection.transaction():
            connection.execute(sql.SQL("create role {} nologin").format(role))
            connection.execute(sql.SQL("comment on role {} is {}").format(role, mark))
            made.add(name)
    return frozenset(made)


def _remember(
    connection: _Connection,
    database: str,
    wanted: Mapping[Purpose, str],
    made: frozenset[str],
) -> None:
    for purpose, name in wanted.items():
        for role in _all(connection, _ROLE, [name]):
            if role.is_too_mighty:
                raise RoleError(
                    f"role {name} is a superuser or passes row security by, which no role of this "
                    "package may; take that from it, or set SESSION_ANALYTICS_ROLE_PREFIX"
                )
            if not role.is_known and role.database not in {None, database}:
                raise RoleError(
                    f"role {name} was made for database {role.database}; set "
                    "SESSION_ANALYTICS_ROLE_PREFIX to names that no other installation has"
                )
            if not role.is_known or name in made:
                # A database that was dropped and made again finds those that it left.
                is_made_here = name in made or role.database == database
                connection.execute(_REMEMBER, [purpose, name, is_made_here])


_ROLE: Final = f"""
select
    pg_roles.rolsuper or pg_roles.rolbypassrls as is_too_mighty,
    substring(shobj_description(pg_roles.oid, 'pg_authid') from '^{_MARK}(.*)$') as database,
    exists (select from analytics.roles where roles.role_name = pg_roles.rolname) as is_known
from pg_roles
where pg_roles.rolname = %s
"""  # noqa: S608 - the mark is above
_REMEMBER: Final = """
insert into analytics.roles (purpose, role_name, is_made_here)
values (%s, %s, %s)
on conflict (purpose) do update set is_made_here = excluded.is_made_here
"""


def _told_missing(
    login: str, wanted: Mapping[Purpose, str], roles: Mapping[Purpose, str]
) -> Iterator[str]:
    if not roles:
        yield (
            f"No roles: {login} may not make any (it has no CREATEROLE). Everything works with "
            "this one login, and whoever has it can do everything."
        )
    elif roles.keys() != wanted.keys():
        missing = ", ".join(wanted[purpose] for purpose in wanted if purpose not in roles)
        yield f"No role {missing}: {login} may not make it (it has no CREATEROLE)."


def _join(connection: _Connection, role: str) -> None:
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


def _is_full_member(connection: _Connection, role: str) -> bool:
    has_options = connection.info.server_version >= _FIRST_WITH_MEMBERSHIP_OPTIONS
    return bool(
        _one(
            connection,
            "select pg_has_role(%s, 'usage') and pg_has_role(%s, %s) as it",
            [role, role, "set" if has_options else "member"],
        ).it
    )


def _open_database(connection: _Connection, database: str, purpose: Purpose, role: str) -> None:
    # Everybody may do both, unless an operator took that away. A build compares views by making
    # temporary ones.
    wanted = {"connect": sql.SQL("connect"), "temporary": sql.SQL("temporary")}
    for privilege in ("connect", "temporary") if purpose is Purpose.BUILDER else ("connect",):
        question = "select has_database_privilege(%s, %s, %s) as it"
        if not _one(connection, question, [role, database, privilege]).it:
            with suppress(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(
                    sql.SQL("grant {} on database {} to {}").format(
                        wanted[privilege], sql.Identifier(database), sql.Identifier(role)
                    )
                )


def _hand_over(connection: _Connection, objects: Iterable[str], owner: str) -> None:
    """Give the owner what the login made: its functions must not run with a superuser's rights.

    What somebody else made stays theirs, the application's tables among it. So does everything
    where the login could not use it any more.
    """
    if _is_full_member(connection, owner):
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            _run_all(connection, _HAND_OVER, {"owner": owner, "names": list(objects)})


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


def _hand_over_views(connection: _Connection, builder: str, bi: str | None) -> None:
    """Give the builders the views that dbt made before there were any: they replace them."""
    if _is_full_member(connection, builder):
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            _run_all(
                connection, _HAND_OVER_VIEWS, {"builder": builder, "bi": bi, "views": _BUILT_VIEWS}
            )


_BUILT_VIEWS: Final = ["dim_date", "dim_session_type", "dim_user", "fct_sessions"]
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


def _logins(connection: _Connection, roles: Mapping[Purpose, str]) -> Iterator[tuple[Purpose, str]]:
    """The roles themselves, which an operator may let log in, and members of just one of them."""
    yield from roles.items()
    purposes = {role: purpose for purpose, role in roles.items()}
    for row in _all(connection, _MEMBERS, [list(purposes)]):
        yield purposes[row.role], row.login


_MEMBERS: Final = """
select login.rolname as login, min(role.rolname) as role
from pg_auth_members
inner join pg_roles as role on pg_auth_members.roleid = role.oid
inner join pg_roles as login on pg_auth_members.member = login.oid
where
    role.rolname = any(%s)
    and login.rolcanlogin
    and not login.rolsuper
    and login.rolname <> current_user
group by login.rolname
having count(distinct role.rolname) = 1
order by login.rolname
"""


def _configure(
    connection: _Connection, database: str, role: str, settings: Mapping[str, str]
) -> bool:
    """Make the settings that nobody made yet; False where the login may not."""
    made = {
        setting.partition("=")[0]
        for row in _all(connection, _SETTINGS_OF_ROLE, [role])
        for setting in row.setconfig
    }
    for name in settings.keys() - made:
        try:
            # Not every system can check whether the client is still there.
            with suppress(errors.InvalidParameterValue), connection.transaction():
                connection.execute(
                    sql.SQL("alter role {} in database {} set {} = {}").format(
                        sql.Identifier(role),
                        sql.Identifier(database),
                        sql.Identifier(name),
                        sql.Literal(settings[name]),
                    )
                )
        except errors.InsufficientPrivilege:
            return False
    return True


_SETTINGS_OF_ROLE: Final = """
select pg_db_role_setting.setconfig
from pg_db_role_setting
inner join pg_database on pg_db_role_setting.setdatabase = pg_database.oid
where
    pg_database.datname = current_database()
    and pg_db_role_setting.setrole = to_regrole(quote_ident(%s))
"""


@dataclass(frozen=True, slots=True)
class KnownRole:
    """A role that a database names as its own."""

    purpose: Purpose
    name: str
    is_made_here: bool


def known_roles(connection: _Connection) -> list[KnownRole]:
    """The roles that the database names and that exist; none where it knows of no roles yet.

    Raises:
        psycopg.Error: the server refused.
    """
    if not _one(connection, "select to_regclass('analytics.roles') is not null as it").it:
        return []
    return [
        KnownRole(Purpose(row.purpose), row.role_name, row.is_made_here)
        for row in _all(
            connection,
            """
            select roles.purpose, roles.role_name, roles.is_made_here
            from analytics.roles
            inner join pg_roles on roles.role_name = pg_roles.rolname
            """,
        )
    ]


def drop_left_roles(connection: _Connection, database: str) -> None:
    """Drop the roles that were made for a database which was dropped since, all but those in use.

    Raises:
        psycopg.Error: the server refused.
    """
    for role in _all(
        connection,
        "select rolname as name from pg_roles where shobj_description(oid, 'pg_authid') = %s",
        [_MARK + database],
    ):
        with suppress(errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role.name)))


def remove_roles(
    connection: _Connection, source_schema: str, roles: Iterable[KnownRole]
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
        _run_all(
            connection,
            _TAKE_AWAY,
            {"role": role.name, "schema": source_schema, "is_made_here": role.is_made_here},
        )
        _unconfigure(connection, database, role)
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


def _unconfigure(connection: _Connection, database: str, role: KnownRole) -> None:
    made = {
        setting
        for row in _all(connection, _SETTINGS_OF_ROLE, [role.name])
        for setting in row.setconfig
    }
    for name, value in SETTINGS_OF_LOGINS[role.purpose].items():
        if f"{name}={value}" in made:
            with suppress(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(
                    sql.SQL("alter role {} in database {} reset {}").format(
                        sql.Identifier(role.name), sql.Identifier(database), sql.Identifier(name)
                    )
                )


def _run_all(connection: _Connection, statements: str, parameters: Mapping[str, object]) -> None:
    """Run the statements that a query makes, whose names the server has quoted."""
    for row in connection.execute(statements, parameters).fetchall():
        connection.execute(str(row[0]).encode())


def _all(connection: _Connection, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def _one(connection: _Connection, statement: str, parameters: Sequence[object] = ()) -> Any:
    return _all(connection, statement, parameters)[0]
