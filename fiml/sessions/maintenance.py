"""What an operator does now and then: retention, erasure, letting go what was set aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import errors as pg_errors
from psycopg import sql

from fiml.database import Connection, Database
from fiml.errors import DatabaseError
from fiml.sessions._arguments import MAX_KEEP_DAYS, check_user_id, check_whole_number

__all__ = [
    "Retention",
    "apply_retention",
    "drop_old_rows",
    "erase_user",
    "erasure_receipt",
    "find_old_rows",
    "release_quarantined_sessions",
]

# These wait for writers and touch many rows; an hour is past any patience, and still an end.
_PATIENCE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What retention did, or would do.

    Attributes:
        horizon: a UTC midnight, before which only whole days are known. None where nothing was
            ever dropped.
        rows: of sessions and session_metrics, that went or would go.
    """

    horizon: datetime | None
    rows: int


async def apply_retention(database: Database, keep_days: int) -> datetime | None:
    """Drop raw rows older than `keep_days` days of 24 hours, and leave the figures.

    Nothing younger than the oldest session that is not archived goes. Writers wait meanwhile.

    Returns:
        The horizon, a UTC midnight: before it, only whole days are known. None where nothing was
        ever dropped.

    Raises:
        InvalidArgumentError: `keep_days` is not an integer from 1 to 36 500.
        DatabaseError: the marts do not hold every row yet that would go (build first), or the
            database did not answer.
    """
    return (await drop_old_rows(database, keep_days)).horizon


async def drop_old_rows(database: Database, keep_days: int) -> Retention:
    """Do what `apply_retention` does, and say how many rows went.

    Raises:
        InvalidArgumentError: as from `apply_retention`.
        DatabaseError: as from `apply_retention`.
    """
    days = check_whole_number(keep_days, "keep_days", MAX_KEEP_DAYS)
    schema = database.settings.source_schema

    async def drop(connection: Connection) -> Retention:
        async with _patiently(connection):
            before = await _fetched(connection, _DELETED, [schema])
            horizon = await _fetched(connection, _APPLY, [days])
            after = await _fetched(connection, _DELETED, [schema])
        return Retention(horizon, after - before)

    return await database.run(drop, timeout=_PATIENCE_SECONDS)


async def find_old_rows(database: Database, keep_days: int) -> Retention:
    """What `drop_old_rows` would do now; nothing is changed.

    Raises:
        InvalidArgumentError: as from `apply_retention`.
        DatabaseError: the database did not answer.
    """
    days = check_whole_number(keep_days, "keep_days", MAX_KEEP_DAYS)
    schema = sql.Identifier(database.settings.source_schema)

    async def look(connection: Connection) -> Retention:
        async with _patiently(connection):
            cursor = await connection.execute(_WOULD_GO.format(schema=schema), [days])
            horizon, rows = await cursor.fetchone() or (None, 0)
        return Retention(horizon, rows)

    return await database.run(look, timeout=_PATIENCE_SECONDS)


_APPLY: Final = (
    "select nullif(analytics.apply_retention(now() - make_interval(days => %s)), '-infinity')"
)
# Counted by the server as they go; what this connection deleted before may still be among them.
_DELETED: Final = """
select coalesce(sum(n_tup_del), 0)::bigint
from pg_stat_xact_user_tables
where schemaname = %s and relname in ('sessions', 'session_metrics')
"""
# As analytics.apply_retention chooses them.
_WOULD_GO: Final = sql.SQL("""
with reached as materialized (
    select greatest(
        date_trunc(
            'day',
            least(
                now() - make_interval(days => %s),
                (select min(created_at) from {schema}.sessions where not is_archived)
            ),
            'UTC'
        ),
        analytics.horizon()
    ) as horizon
)
select
    nullif(horizon, '-infinity'),
    (select count(*) from {schema}.session_metrics where created_at < horizon)
    + (select count(*) from {schema}.sessions where is_archived and archived_at < horizon)
from reached
""")


async def erase_user(database: Database, user_id: str) -> int:
    """Take a person out: every row of theirs, and so their part of every figure.

    The user cannot be written again, until `analytics.forget_erasure(user_id)`.

    Returns:
        Rows removed from the source tables.

    Raises:
        InvalidUserIdError: `user_id` is malformed.
        DatabaseError: the database did not answer.
    """
    row = await _call(database, "select analytics.erase_user(%s)", [check_user_id(user_id)])
    return int(row[0])


async def erasure_receipt(database: Database, user_id: str) -> dict[str, int]:
    """How many rows of an erased user are left, by place; 1 where it is no rows that are left.

    What is derived is there until every mart has folded the erasure: `fiml.warehouse.erasure` does
    that at once, the next build in any case.

    Raises:
        InvalidUserIdError: `user_id` is malformed.
        DatabaseError: the database did not answer.
    """
    user = check_user_id(user_id)

    async def read(connection: Connection) -> dict[str, int]:
        cursor = await connection.execute(
            "select place, remaining from analytics.erasure_receipt(%s)", [user]
        )
        return dict(await cursor.fetchall())

    return await database.run(read, is_repeatable=True)


async def release_quarantined_sessions(database: Database) -> int:
    """Let the next archival try again the sessions that it had set aside; return how many.

    Raises:
        DatabaseError: the database did not answer.
    """
    row = await _call(database, "select analytics.release_quarantined_sessions()", [])
    return int(row[0])


async def _call(database: Database, statement: str, parameters: Sequence[object]) -> Any:
    async def call(connection: Connection) -> Any:
        async with _patiently(connection):
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchone()

    return await database.run(call, timeout=_PATIENCE_SECONDS)


async def _fetched(connection: Connection, statement: str, parameters: Sequence[object]) -> Any:
    cursor = await connection.execute(statement, parameters)
    row = await cursor.fetchone()
    return row[0] if row else None


@asynccontextmanager
async def _patiently(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose statements may take long; what our functions refuse is told as theirs."""
    try:
        async with connection.transaction():
            await connection.execute(
                "select set_config('statement_timeout', %s, true)",
                [str(int(_PATIENCE_SECONDS * 1000))],
            )
            yield
    except pg_errors.RaiseException as error:
        # The functions' own words say what to do.
        said = (error.diag.message_primary or "", error.diag.message_hint or "")
        raise DatabaseError(". ".join(filter(None, said))) from error
