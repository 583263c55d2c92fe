"""Whether there is a server, new enough, and an installation of this package's version on it."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from fiml.sessions.health._asking import Connection, first_line, one_row
from fiml.sessions.health._findings import Finding, Severity
from fiml.sessions.migrations import MIGRATIONS
from fiml.settings import Settings

__all__ = ["OLDEST_POSTGRESQL", "installation", "no_connection", "server"]

OLDEST_POSTGRESQL: Final = 15
_MIGRATE: Final = "Run `session-analytics migrate`."


def no_connection(error: psycopg.Error) -> Finding:
    """Why nobody could connect."""
    said = first_line(error)
    # libpq has no codes for these, and servers may speak other languages than English.
    if re.search(r"password|authentication|pg_hba\.conf", said):
        title, remedy = (
            "login refused",
            "Check user and password in DATABASE_URL (or PG* variables).",
        )
    elif re.search(r"FATAL.*database \".*\" does not exist", said):
        title, remedy = "no such database", "Check the database's name, or create it."
    elif re.search(r"FATAL.*role \".*\" does not exist", said):
        title, remedy = "no such user", "Check the user in DATABASE_URL (or PGUSER)."
    elif "too many clients" in said or "connection slots" in said:
        title, remedy = "no free connection", "Raise max_connections, or lower the pool sizes."
    else:
        title = "no server"
        remedy = "Check host and port in DATABASE_URL (or PG* variables), and that it runs there."
    return Finding("server.unreachable", Severity.ERROR, title, said, remedy)


def server(version_number: int, shown: str, database: str) -> Finding:
    """Whether the server is new enough."""
    if version_number < OLDEST_POSTGRESQL * 10_000:
        return Finding(
            "server.too_old",
            Severity.ERROR,
            "PostgreSQL is too old",
            f"This is PostgreSQL {shown}; {OLDEST_POSTGRESQL} or newer is needed.",
            f"Move the database to PostgreSQL {OLDEST_POSTGRESQL} or newer.",
        )
    return Finding("server", Severity.OK, "server", f"PostgreSQL {shown}, database {database}.")


async def installation(connection: Connection, settings: Settings) -> Finding:
    """Whether the database is migrated, by this version, for this source schema."""
    expected = MIGRATIONS[-1].version
    title = "installation"
    exists = await one_row(
        connection, "select to_regclass('analytics.migrations') is not null as it"
    )
    version = 0
    if exists.it:
        found = await one_row(
            connection, "select coalesce(max(version), 0) as version from analytics.migrations"
        )
        version = found.version
    if version == 0:
        return Finding(
            "installation.missing", Severity.ERROR, title, "The database is not migrated.", _MIGRATE
        )
    if version != expected:
        return Finding(
            "installation.version",
            Severity.ERROR,
            title,
            f"The database is at version {version}, this package needs {expected}.",
            _MIGRATE if version < expected else "Install the newer session-analytics.",
        )
    bound = await one_row(connection, "select source_schema from analytics.settings")
    if bound.source_schema != settings.source_schema:
        return Finding(
            "installation.source_schema",
            Severity.ERROR,
            title,
            f"The database was installed for the source schema {bound.source_schema}, "
            f"not {settings.source_schema}.",
            f"Set SESSION_ANALYTICS_SOURCE_SCHEMA={bound.source_schema}.",
        )
    return Finding(
        "installation",
        Severity.OK,
        title,
        f"Version {version}, source tables in schema {bound.source_schema}.",
    )
