"""A deterministic history: the same scale and the same anchor give the same rows.

180 days in time order; few users, symbols, tags and query types that are seen often, and many that
are not. Every draw is a hash of the session's number, so that the server makes the rows by itself,
a hundred thousand with each statement, and always the same ones.

What a session asked is stored as counts alone: its query history, which no figure of an archived
session is read from, is left empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from benchmarks.history_sql import ARCHIVED, EXPIRED, FUNCTIONS, OPEN
from benchmarks.scale import Scale

__all__ = [
    "ACTIVE_PER_THOUSAND",
    "DAYS",
    "QUERY_TYPES",
    "SYMBOLS",
    "TAGS",
    "USERS",
    "active_sessions",
    "add_archived",
    "add_expired",
    "generate",
    "remove",
]

DAYS: Final = 180
USERS: Final = 20_000
SYMBOLS: Final = 5_000
TAGS: Final = 500
QUERY_TYPES: Final = (
    "price",
    "chart",
    "news",
    "fundamentals",
    "screening",
    "comparison",
    "forecast",
    "report",
)
ACTIVE_PER_THOUSAND: Final = 3

# Expired, and still open: what piles up between two archivals.
_WAITING_PER_HUNDRED_THOUSAND: Final = 6
_ROWS_OF_A_STATEMENT: Final = 100_000

_INDEXES: Final = """
select pg_class.relname, pg_get_indexdef(pg_index.indexrelid)
from pg_index
inner join pg_class on pg_class.oid = pg_index.indexrelid
where
    pg_index.indrelid = any(array['sessions', 'session_metrics']::regclass [])
    and not pg_index.indisunique
order by pg_class.relname
"""


def active_sessions(scale: Scale) -> int:
    """How many sessions are active at the anchor."""
    return scale.sessions * ACTIVE_PER_THOUSAND // 1000


def generate(
    connection: psycopg.Connection[Any],
    scale: Scale,
    anchor: datetime,
    *,
    with_triggers: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Fill an empty, migrated database; a transaction for every hundred thousand rows.

    Args:
        connection: in autocommit, with the source schema on its search path.
        scale: how many archived sessions; 3 active ones for every 1 000 come on top.
        anchor: the present of the history, timezone-aware: nothing is later except expiries.
        with_triggers: without them nothing of this reaches the change feed, and the marts must be
            rebuilt from scratch afterwards; needs a superuser.
        on_progress: called with the fraction done.

    Raises:
        psycopg.Error: the server refused; what was loaded before stays.
    """
    begin = anchor - timedelta(days=DAYS)

    connection.execute(FUNCTIONS.encode())

    def load(statement: str, first: int, last: int, **more: object) -> None:
        with connection.transaction():
            connection.execute("set local jit = off")
            if not with_triggers:
                connection.execute("set local session_replication_role = replica")
            parameters = _parameters(scale.sessions, begin, anchor)
            connection.execute(
                statement.encode(), {**parameters, **more, "first": first, "last": last}
            )

    with _indexes_made_at_the_end(connection):
        for first in range(1, scale.sessions + 1, _ROWS_OF_A_STATEMENT):
            last = min(first + _ROWS_OF_A_STATEMENT - 1, scale.sessions)
            load(ARCHIVED, first, last)
            if on_progress is not None:
                on_progress(last / scale.sessions)
        waiting = scale.sessions * _WAITING_PER_HUNDRED_THOUSAND // 100_000
        still_open = active_sessions(scale) + waiting
        load(OPEN, scale.sessions + 1, scale.sessions + still_open, waiting=waiting)
    # A reader's plans are as good as the statistics, and index-only scans need the visibility map.
    connection.execute("vacuum (analyze) sessions")
    connection.execute("vacuum (analyze) session_metrics")


@contextmanager
def _indexes_made_at_the_end(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop the indexes that are no constraint's, and make them again over what was loaded."""
    indexes = connection.execute(_INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
    yield
    for _, definition in indexes:
        connection.execute(definition.encode())


def add_archived(
    connection: psycopg.Connection[Any],
    numbers: range,
    begin: datetime,
    end: datetime,
    *,
    archived_at: datetime | None = None,
    user_id: str | None = None,
) -> list[UUID]:
    """Write sessions that have ended, triggers and all, and return their ids.

    Args:
        connection: in autocommit, or in a transaction.
        numbers: what is drawn depends on them; none of them may be stored already.
        begin: when the first session begins; they are spread evenly from here ...
        end: ... to here.
        archived_at: when all of them were archived; default: each when it ended, before `end`.
        user_id: whose they are; default: drawn.
    """
    connection.execute(FUNCTIONS.encode())
    parameters = {
        **_parameters(len(numbers), begin, end),
        "origin": numbers.start,
        "first": numbers.start,
        "last": numbers.stop - 1,
        "archived_at": archived_at,
        "user_id": user_id,
    }
    cursor = connection.execute(f"{ARCHIVED} returning session_id".encode(), parameters)
    return [row[0] for row in cursor.fetchall()]


def add_expired(
    connection: psycopg.Connection[Any], numbers: range, begin: datetime, end: datetime
) -> None:
    """Write sessions that have expired, with five queries each, and wait for archival."""
    connection.execute(FUNCTIONS.encode())
    parameters = {
        **_parameters(len(numbers), begin, end),
        "origin": numbers.start,
        "first": numbers.start,
        "last": numbers.stop - 1,
    }
    connection.execute(EXPIRED.encode(), parameters)


def remove(connection: psycopg.Connection[Any], session_ids: list[UUID]) -> None:
    """Take sessions out again, as if they had never been."""
    with connection.transaction():
        connection.execute("delete from session_metrics where session_id = any(%s)", [session_ids])
        connection.execute("delete from sessions where id = any(%s)", [session_ids])


def _parameters(sessions: int, begin: datetime, anchor: datetime) -> dict[str, Any]:
    return {
        "begin": begin,
        "anchor": anchor,
        "sessions": sessions,
        "origin": 1,
        "users": USERS,
        "symbols": SYMBOLS,
        "tags": TAGS,
        "query_types": list(QUERY_TYPES),
        "archived_at": None,
        "user_id": None,
    }
