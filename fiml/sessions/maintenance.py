"""What an operator does now and then: retention, erasure, letting go what was set aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from psycopg import errors as pg_errors

from fiml.database import Connection, Database
from fiml.errors import DatabaseError
from fiml.sessions._arguments import MAX_KEEP_DAYS, check_user_id, check_whole_number

__all__ = [
    "apply_retention",
    "erase_user",
    "erasure_receipt",
    "release_quarantined_sessions",
]

# These wait for writers and touch many rows; an hour is past any patience, and still an end.
_PATIENCE_SECONDS: Final = 3600.0


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
    days = check_whole_number(keep_days, "keep_days", MAX_KEEP_DAYS)
    row = await _call(
        database,
        "select nullif(analytics.apply_retention(now() - make_interval(days => %s)), '-infinity')",
        [days],
    )
    horizon: datetime | None = row[0]
    return horizon


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
        try:
            async with connection.transaction():
                await connection.execute(
                    "select set_config('statement_timeout', %s, true)",
                    [str(int(_PATIENCE_SECONDS * 1000))],
                )
                cursor = await connection.execute(statement, parameters)
                return await cursor.fetchone()
        except pg_errors.RaiseException as error:
            # The functions' own words say what to do.
            said = (error.diag.message_primary or "", error.diag.message_hint or "")
            raise DatabaseError(". ".join(filter(None, said))) from error

    return await database.run(call, timeout=_PATIENCE_SECONDS)
