"""Versioned migrations: ordered SQL files, each applied exactly once, under a lock.

The files are plain SQL. Each runs in a transaction of its own, with the source schema first in
`search_path`, so that unqualified names are the source's tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.rows import scalar_row

from fiml.errors import SchemaVersionError
from fiml.sessions.roles import known_roles, remove_roles, set_up_roles

__all__ = [
    "HOW_TO_MIGRATE",
    "MIGRATIONS",
    "Migration",
    "installed_version",
    "migrate",
    "require_current_version",
    "uninstall",
]

HOW_TO_MIGRATE: Final = "run `session-analytics migrate`"

# Any two processes that migrate one database must take the same key; the value has no meaning.
_LOCK_KEY: Final = 7_165_839_204_411
_OWN_SCHEMAS: Final = ("analytics", "marts", "serving")
# A migration locks both tables, and so does a writer, perhaps in another order.
_ATTEMPTS: Final = 10
_FIRST_WITH_ROLES: Final = 7
_CREATION: Final = re.compile(
    r"^create (table|view|function|aggregate) ((?:analytics|marts|serving)\.[a-z_]+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file: its number, its name and its text."""

    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return sha256(self.statements.encode()).hexdigest()


@cache
def _read_migrations() -> tuple[Migration, ...]:
    found = sorted(
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".sql")
    )
    return tuple(
        Migration(int(name[:4]), name[5:].removesuffix(".sql"), statements)
        for name, statements in found
    )


MIGRATIONS = _read_migrations()


def migrate(
    conninfo: str,
    source_schema: str = "public",
    *,
    role_prefix: str = "",
    up_to: int | None = None,
    on_progress: Callable[[Migration], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Migration]:
    """Bring a database to this package's version, or to `up_to`, and return what was applied.

    Also makes the roles that are missing, where the login may, and gives them what they lack.

    Safe to call from several processes at once: one applies, the others wait and find nothing left
    to do. A migration that fails leaves nothing of itself behind. Waits for writers in flight.

    Args:
        conninfo: the database, with a login that owns it or is a superuser.
        source_schema: where the application's tables are, or are to be.
        role_prefix: what the names of the roles begin with; empty takes the database's name.
        up_to: the last version to apply.
        on_progress: hears of each migration before it is applied.
        on_note: hears what could not be done with this login, and which logins got settings, a
            line each.

    Raises:
        RoleError: a role of one of the names belongs to another installation, or may do too much.
        SchemaVersionError: the database is newer than this package, a migration that was applied
            reads differently now, or it was installed for another source schema.
        psycopg.Error: the server refused a statement or cannot be reached.
    """
    wanted = [step for step in MIGRATIONS if up_to is None or step.version <= up_to]
    applied_now: list[Migration] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        try:
            applied: dict[int, str] = {}
            if installed_version(connection) > 0:
                applied = dict(
                    connection.execute(
                        "select version, checksum from analytics.migrations"
                    ).fetchall()
                )
                _check(applied, source_schema, connection)
            missing = [step for step in wanted if step.version not in applied]
            made_tables: list[str] = []
            if missing:
                if not applied:
                    made_tables = _missing_tables(connection, source_schema)
                _prepare(connection, source_schema)
            for step in missing:
                if on_progress is not None:
                    on_progress(step)
                _apply(connection, step, source_schema)
                applied_now.append(step)
            if any(step.version == _FIRST_WITH_ROLES for step in wanted):
                notes = _set_up_roles(connection, source_schema, role_prefix, made_tables)
                if on_note is not None:
                    for note in notes:
                        on_note(note)
        finally:
            if not connection.closed:
                connection.execute("select pg_advisory_unlock(%s)", [_LOCK_KEY])
    return applied_now


def installed_version(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """The version a database is at; 0 where nothing was ever applied."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        exists = cursor.execute("select to_regclass('analytics.migrations')").fetchone()
        if exists is None:
            return 0
        found = cursor.execute("select max(version) from analytics.migrations").fetchone()
    return int(found or 0)


def require_current_version(version: int) -> None:
    """Refuse a database that is at another version than this package.

    Raises:
        SchemaVersionError: the message names both and says what to do.
    """
    newest = MIGRATIONS[-1].version
    if version != newest:
        remedy = HOW_TO_MIGRATE if version < newest else "install the newer session-analytics"
        raise SchemaVersionError(
            f"the database is at version {version}, this package needs {newest}; {remedy}"
        )


def uninstall(conninfo: str, *, on_note: Callable[[str], None] | None = None) -> bool:
    """Take the triggers out, what migrations made in the schemas of ours, and the roles they made.

    The source tables stay, as writable as they were. The schemas go, unless they hold what others
    made there; of that, only what reads ours goes. A role that is used elsewhere stays, and so does
    one that an operator made.

    Args:
        conninfo: the database, with a login as for `migrate`.
        on_note: hears which roles stay, and why.

    Returns:
        Whether there was anything to take out.

    Raises:
        psycopg.Error: the server refused a statement or cannot be reached.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        with connection.cursor(row_factory=scalar_row) as cursor:
            if not cursor.execute("select to_regclass('analytics.migrations')").fetchone():
                return False
        notes: list[str] = []

        def take_out(connection: psycopg.Connection[tuple[object, ...]]) -> None:
            notes[:] = _take_out(connection)

        _repeated(connection, take_out)
    if on_note is not None:
        for note in notes:
            on_note(note)
    return True


def _take_out(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    roles = known_roles(connection)
    with connection.cursor(row_factory=scalar_row) as cursor:
        source_schema = (
            cursor.execute("select source_schema from analytics.settings").fetchone()
            if roles
            else None
        )
    # Names are from our own files. The triggers go with the functions they call.
    for kind, name in _own_objects():
        # By its name alone an aggregate can only be dropped as a routine.
        what = "routine" if kind in {"function", "aggregate"} else kind
        connection.execute(f"drop {what} if exists {name} cascade".encode())
    for schema in _OWN_SCHEMAS:
        with suppress(errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(f"drop schema if exists {schema}".encode())
    return remove_roles(connection, str(source_schema), roles)


def _own_objects() -> list[tuple[str, str]]:
    own = [found for step in MIGRATIONS for found in _CREATION.findall(step.statements)]
    return [*own, ("table", "analytics.migrations")]


def _missing_tables(
    connection: psycopg.Connection[tuple[object, ...]], source_schema: str
) -> list[str]:
    return [
        f"{source_schema}.{table}"
        for table in ("sessions", "session_metrics")
        if connection.execute(
            "select to_regclass(format('%%I.%%I', %s::text, %s::text))", [source_schema, table]
        ).fetchone()
        == (None,)
    ]


def _set_up_roles(
    connection: psycopg.Connection[tuple[object, ...]],
    source_schema: str,
    prefix: str,
    made_tables: list[str],
) -> list[str]:
    with connection.transaction():
        connection.execute(
            sql.SQL("set local search_path = {}, pg_temp").format(sql.Identifier(source_schema))
        )
        own = [name for _, name in _own_objects()]
        return set_up_roles(connection, prefix, own, made_tables)


def _prepare(connection: psycopg.Connection[tuple[object, ...]], source_schema: str) -> None:
    with connection.transaction():
        connection.execute("set local client_min_messages = warning")
        for schema in (source_schema, *_OWN_SCHEMAS):
            connection.execute(
                sql.SQL("create schema if not exists {}").format(sql.Identifier(schema))
            )
        connection.execute(
            """
            create table if not exists analytics.migrations (
                version integer primary key,
                name text not null,
                checksum text not null,
                applied_at timestamptz not null default now()
            )
            """
        )


def _check(
    applied: dict[int, str],
    source_schema: str,
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    known = {step.version: step for step in MIGRATIONS}
    newest = max(applied, default=0)
    if newest > max(known):
        raise SchemaVersionError(
            f"the database is at version {newest}, this package knows versions up to {max(known)}; "
            "install the newer package"
        )
    for version, checksum in applied.items():
        if known[version].checksum != checksum:
            raise SchemaVersionError(
                f"migration {version} ({known[version].name}) was applied with another text; "
                "an applied migration must not be edited, add a new one"
            )
    if applied.keys() >= {2}:
        row = connection.execute("select source_schema from analytics.settings").fetchone()
        if row is not None and row[0] != source_schema:
            raise SchemaVersionError(
                f"the database was installed for source schema {row[0]!r}, not {source_schema!r}; "
                "set SESSION_ANALYTICS_SOURCE_SCHEMA to it"
            )


def _apply(
    connection: psycopg.Connection[tuple[object, ...]], step: Migration, source_schema: str
) -> None:
    def apply(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute(
            sql.SQL("set local search_path = {}, pg_temp").format(sql.Identifier(source_schema))
        )
        # Without parameters: the whole file goes over as one string of several statements.
        connection.execute(step.statements.encode())
        connection.execute(
            "insert into analytics.migrations (version, name, checksum) values (%s, %s, %s)",
            [step.version, step.name, step.checksum],
        )

    _repeated(connection, apply)


def _repeated(
    connection: psycopg.Connection[tuple[object, ...]],
    work: Callable[[psycopg.Connection[tuple[object, ...]]], None],
) -> None:
    """Do `work` in a transaction, and again where that met a writer in a deadlock."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            with connection.transaction():
                connection.execute("set local client_min_messages = warning")
                work(connection)
        except errors.DeadlockDetected:
            if attempts_left == 0:
                raise
        else:
            return
