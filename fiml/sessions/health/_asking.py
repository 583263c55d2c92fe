"""How the database is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from fiml.sessions.health._findings import Finding, Limits
from fiml.settings import Settings

__all__ = ["COUNTED_AT_MOST", "Connection", "Question", "all_rows", "first_line", "one_row"]

# Counting stops here: "more than" is all that anyone needs to know.
COUNTED_AT_MOST: Final = 1_000_000

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Question: TypeAlias = Callable[[Connection, Settings, Limits], Awaitable[list[Finding]]]


async def one_row(
    connection: Connection, statement: sql.Composed | str, parameters: Any = None
) -> Any:
    """The first row of the answer."""
    rows = await all_rows(connection, statement, parameters)
    return rows[0]


async def all_rows(
    connection: Connection, statement: sql.Composed | str, parameters: Any = None
) -> list[Any]:
    """Every row of the answer, its columns by their names."""
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall()


def first_line(error: psycopg.Error) -> str:
    """What the server said, in a line."""
    text = (error.diag.message_primary or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
