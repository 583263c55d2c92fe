"""Settings of logins in one database: made where nobody made them, and taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from psycopg import errors, sql

from fiml.sessions.roles._catalogue import Connection, KnownRole, query, settings_of
from fiml.sessions.roles._names import SETTINGS_OF_LOGINS, Purpose

__all__ = ["configure", "logins", "unconfigure"]


def logins(connection: Connection, roles: Mapping[Purpose, str]) -> Iterator[tuple[Purpose, str]]:
    """The roles themselves, which an operator may let log in, and members of just one of them."""
    yield from roles.items()
    purposes = {role: purpose for purpose, role in roles.items()}
    for row in query(connection, _MEMBERS, [list(purposes)]):
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


def configure(
    connection: Connection, database: str, role: str, settings: Mapping[str, str]
) -> bool:
    """Make the settings that nobody made yet; False where the login may not."""
    made = {setting.partition("=")[0] for setting in settings_of(connection, role)}
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


def unconfigure(connection: Connection, database: str, role: KnownRole) -> None:
    """Take back the settings that are still as they were made."""
    made = settings_of(connection, role.name)
    for name, value in SETTINGS_OF_LOGINS[role.purpose].items():
        if f"{name}={value}" in made:
            with suppress(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(
                    sql.SQL("alter role {} in database {} reset {}").format(
                        sql.Identifier(role.name), sql.Identifier(database), sql.Identifier(name)
                    )
                )
