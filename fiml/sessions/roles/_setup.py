"""Making the roles that are missing, and giving each what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from psycopg import errors, sql

from fiml.errors import RoleError
from fiml.sessions.roles._catalogue import (
    MARK,
    Connection,
    query,
    query_one,
    roles_in_use,
    settings_of,
)
from fiml.sessions.roles._handover import hand_over, hand_over_views, join
from fiml.sessions.roles._names import SETTINGS_OF_LOGINS, Purpose, role_names
from fiml.sessions.roles._settings import configure, logins

__all__ = ["set_up_roles"]


def set_up_roles(
    connection: Connection,
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
        What could not be done, and which logins got settings, a line each.

    Raises:
        RoleError: a role of that name belongs to another installation, or may do too much.
        psycopg.Error: the server refused a statement.
    """
    connection.execute("select analytics.close_to_public()")
    login = query_one(connection, _LOGIN)
    wanted = _wanted(connection, login.database, prefix)
    made = _make(connection, login.database, wanted.values()) if login.may_make else frozenset()
    _remember(connection, login.database, wanted, made)
    roles = roles_in_use(connection)
    notes = list(_told_missing(login.name, wanted, roles))
    for purpose in (Purpose.OWNER, Purpose.BUILDER):
        if purpose in roles:
            join(connection, roles[purpose])
    for purpose, role in roles.items():
        _open_database(connection, login.database, purpose, role)
        refused = query(
            connection, "select analytics.grant_privileges(%s, %s) as it", [purpose, role]
        )
        notes += [f"{login.name} could not grant {row.it} to {role}." for row in refused]
    if Purpose.OWNER in roles:
        for objects in (own_objects, own_source_tables):
            hand_over(connection, objects, roles[Purpose.OWNER])
    if Purpose.BUILDER in roles:
        hand_over_views(connection, roles[Purpose.BUILDER], roles.get(Purpose.BI))
    refused_settings = []
    configured = []
    for purpose, role in logins(connection, roles):
        before = settings_of(connection, role)
        if not configure(connection, login.database, role, SETTINGS_OF_LOGINS[purpose]):
            refused_settings.append(role)
        elif role not in roles.values() and settings_of(connection, role) != before:
            configured.append(role)
    if refused_settings:
        notes.append(
            f"{login.name} may not change the settings of {', '.join(refused_settings)}: timeouts "
            "and the like stay the server's (docs/security.md lists them)."
        )
    if configured:
        notes.append(f"Settings of their role were given to: {', '.join(configured)}.")
    return notes


_LOGIN: Final = """
select
    rolname as name,
    rolsuper or rolcreaterole as may_make,
    current_database() as database
from pg_roles
where rolname = current_user
"""


def _wanted(connection: Connection, database: str, prefix: str) -> dict[Purpose, str]:
    wanted = role_names(database, prefix)
    # A copy of a database, or one that got another name, keeps its roles.
    kept = {
        Purpose(row.purpose): str(row.role_name)
        for row in query(connection, "select purpose, role_name from analytics.roles")
    }
    if prefix and any(wanted[purpose] != role for purpose, role in kept.items()):
        raise RoleError(
            f"this database has its roles already ({', '.join(sorted(kept.values()))}), and their "
            f"names do not begin with {prefix!r}; set SESSION_ANALYTICS_ROLE_PREFIX to what they do"
        )
    return {**wanted, **kept}


def _make(connection: Connection, database: str, names: Iterable[str]) -> frozenset[str]:
    """Make those that are not there, and return them."""
    made = set()
    for name in names:
        if query_one(connection, "select to_regrole(quote_ident(%s)) is not null as it", [name]).it:
            continue
        role, mark = sql.Identifier(name), sql.Literal(MARK + database)
        # Another database's migration may make it at this moment.
        with suppress(errors.DuplicateObject, errors.UniqueViolation), connection.transaction():
            connection.execute(sql.SQL("create role {} nologin").format(role))
            connection.execute(sql.SQL("comment on role {} is {}").format(role, mark))
            made.add(name)
    return frozenset(made)


def _remember(
    connection: Connection,
    database: str,
    wanted: Mapping[Purpose, str],
    made: frozenset[str],
) -> None:
    for purpose, name in wanted.items():
        for role in query(connection, _ROLE, [name]):
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
    substring(shobj_description(pg_roles.oid, 'pg_authid') from '^{MARK}(.*)$') as database,
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


def _open_database(connection: Connection, database: str, purpose: Purpose, role: str) -> None:
    # Everybody may do both, unless an operator took that away. A build compares views by making
    # temporary ones.
    wanted = {"connect": sql.SQL("connect"), "temporary": sql.SQL("temporary")}
    for privilege in ("connect", "temporary") if purpose is Purpose.BUILDER else ("connect",):
        question = "select has_database_privilege(%s, %s, %s) as it"
        if not query_one(connection, question, [role, database, privilege]).it:
            with suppress(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(
                    sql.SQL("grant {} on database {} to {}").format(
                        wanted[privilege], sql.Identifier(database), sql.Identifier(role)
                    )
                )
