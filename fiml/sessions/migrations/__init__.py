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
    up_to: int | None = None,
    on_progress: Callable[[Migration], None] | None = None,
) -> list[Migration]:
    """Bring a database to this package's version, or to `up_to`, and return what was applied.

    Safe to call from several processes at once: one applies, the others wait and find nothing left
    to do. A migration that fails leaves nothing of itself behind. Waits for writers in flight.

    Raises:
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
            if missing:
                _prepare(connection, source_schema)
            for step in missing:
                if on_progress is not None:
                    on_progress(step)
                _apply(connection, step, source_schema)
                applied_now.append(step)
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


def uninstall(conninfo: str) -> bool:
    """Take the triggers out, and all that migrations made in the schemas analytics and marts.

    The source tables stay, as writable as they were. The two schemas go, unless they hold what
    others made there; of that, only what reads ours goes.

    Returns whether there was anything to take out.

    Raises:
        psycopg.Error: the server refused a statement or cannot be reached.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
        with connection.cursor(row_factory=scalar_row) as cursor:
            if not cursor.execute("select to_regclass('analytics.migrations')").fetchone():
                return False
        _repeated(connection, _take_out)
    return True


def _take_out(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    # Names are from our own files. The triggers go with the functions they call.
    own = [found for step in MIGRATIONS for found in _CREATION.findall(step.statements)]
    for kind, name in [*own, ("table", "analytics.migrations")]:
        # By its name alone an aggregate can only be dropped as a routine.
        what = "routine" if kind in {"function", "aggregate"} else kind
        connection.execute(f"drop {what} if exists {name} cascade".encode())
    for schema in _OWN_SCHEMAS:
        with suppress(errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(f"drop schema if exists {schema}".encode())


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
