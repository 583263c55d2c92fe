"""Logins of the demo's database on the local server: each part of the demo has its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import sql

from fiml.demo._database import DATABASE
from fiml.local_server import LocalServer
from fiml.sessions.roles import Purpose, role_names
from fiml.settings import Settings

__all__ = ["make_logins", "with_logins"]

_ROLES: Final = role_names(DATABASE)
_PURPOSES: Final = (Purpose.APP, Purpose.BUILDER, Purpose.READER)


def make_logins(connection: psycopg.Connection[Any], server: LocalServer) -> None:
    """Let the roles of the migrated demo database log in.

    Raises:
        psycopg.Error: they are not there, or the server refused.
    """
    for purpose in _PURPOSES:
        role = _ROLES[purpose]
        # Encrypted here: the server's log may keep statements.
        verifier = connection.pgconn.encrypt_password(
            server.password_of(role).encode(), role.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("alter role {} login password {}").format(
                sql.Identifier(role), sql.Literal(verifier.decode())
            )
        )


def with_logins(settings: Settings, server: LocalServer) -> Settings:
    """The settings with a connection of its own for each purpose."""
    app, builder, reader = (server.conninfo(DATABASE, _ROLES[purpose]) for purpose in _PURPOSES)
    return replace(settings, app_conninfo=app, builder_conninfo=builder, reader_conninfo=reader)
