"""Sessions and queries to store, sessions as other programs write them, and what is stored."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from sessions.examples import value

from fiml.sessions.models import QueryRecord

__all__ = ["HOUR", "Database", "history", "insert", "query"]

Database = psycopg.Connection[tuple[Any, ...]]
HOUR = timedelta(hours=1)


def query(query_type: str = "price", **members: object) -> QueryRecord:
    return QueryRecord(query_type=query_type, **members)


def history(database: Database, session_id: UUID) -> list[Any]:
    found = value(database, "select query_history from sessions where id = %s", session_id)
    assert isinstance(found, list)
    return found


def insert(database: Database, **columns: object) -> UUID:
    """A session as another program may write it: `columns` holds SQL values."""
    session_id = uuid4()
    columns = {"type": "equity", "expires_at": "2999-01-01", **columns}
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    database.execute(
        f"insert into sessions (id, {names}) values (%s, {places})",
        [session_id, *columns.values()],
    )
    return session_id
