"""Databases to migrate, rows in them, and what is asked of them afterwards."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from exactness.oracle import assert_same, expected_stats, read_source
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.migrations import MIGRATIONS, migrate
from fiml.sessions.reading import read_stats
from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import Mart

Connection = psycopg.Connection[tuple[Any, ...]]

LAST = MIGRATIONS[-1].version

EVERY_VERSION = [step.version for step in MIGRATIONS]

# Word for word the documented statements, without "other fields".
DOCUMENTED_DDL = """
CREATE TABLE session_metrics (
    id SERIAL PRIMARY KEY,
    session_id UUID NOT NULL,
    user_id VARCHAR(255),
    session_type VARCHAR(50) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    duration_seconds INTEGER NOT NULL,
    total_queries INTEGER NOT NULL DEFAULT 0,
    cache_hit_rate VARCHAR(50) NOT NULL DEFAULT '0.0',
    avg_query_time_ms VARCHAR(50),
    assets_analyzed JSONB NOT NULL DEFAULT '[]',
    query_type_summary JSONB NOT NULL DEFAULT '{}',
    completed_normally BOOLEAN NOT NULL DEFAULT FALSE,
    abandoned BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    user_id VARCHAR(255),
    type VARCHAR(50) NOT NULL,
    tags JSONB NOT NULL DEFAULT '[]',
    is_archived BOOLEAN NOT NULL DEFAULT FALSE,
    archived_at TIMESTAMPTZ
);
"""

# What a program writes that knows the documented columns and no others.
WRITE_SESSION = """
insert into sessions (id, user_id, type, tags, is_archived, archived_at)
values (%s, %s, %s, '["tech", "growth"]', true, now() - interval '1 hour')
"""

WRITE_METRICS = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries, cache_hit_rate,
    avg_query_time_ms, assets_analyzed, query_type_summary, completed_normally, abandoned
)
values (
    %s, %s, %s, now() - interval '1 day', 90, 3, '0.25', '12.5', '["AAPL", "MSFT"]',
    '{"price": 2, "news": 1}', true, false
)
"""


@contextmanager
def connected(conninfo: str, schema: str = "public") -> Iterator[Connection]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        yield connection


def value(connection: Connection, statement: str, *parameters: object) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def write(connection: Connection, user_id: str | None = "ann", kind: str = "equity") -> UUID:
    """An archived session and its metrics."""
    session_id = uuid4()
    connection.execute(WRITE_SESSION, [session_id, user_id, kind])
    connection.execute(WRITE_METRICS, [session_id, user_id, kind])
    return session_id


def stats(
    conninfo: str, schema: str = "public", path: str | None = None, **question: Any
) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        settings = Settings(conninfo=conninfo, source_schema=schema, timeout_seconds=30)
        async with Database(settings) as database:
            if path is None:
                return await SessionAnalytics(database).get_session_stats(**question)
            return await database.run(
                lambda connection: read_stats(connection, path=path, **question)
            )

    return asyncio.run(read())


def check_figures(conninfo: str, schema: str = "public") -> dict[str, Any]:
    """The platform's answer, after it and every filter's was compared with a naive count."""
    with connected(conninfo, schema) as connection:
        source = read_source(connection)
    users = {row["user_id"] for row in source["metrics"]}
    for user_id in (None, *sorted(users - {None})):
        for session_type in (None, "equity", "macro"):
            question: dict[str, Any] = {
                "user_id": user_id,
                "session_type": session_type,
                "days": 30,
            }
            expected = expected_stats(source, **question)
            for path in (None, "marts", "source"):
                assert_same(stats(conninfo, schema, path=path, **question), expected)
    return stats(conninfo, schema)


def build(conninfo: str, marts: tuple[Mart, ...], run_id: str = "run") -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        fold(connection, marts, run_id)


def own_objects(connection: Connection) -> set[str]:
    """Everything that is not the system's, with what defines it."""
    return {
        row[0]
        for row in connection.execute(
            """
            select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast|temp)'
            union all
            select format('%s %s.%s', relkind, nspname, relname)
            from pg_class join pg_namespace on pg_namespace.oid = relnamespace
            where nspname !~ '^(pg_|information_schema)'
            union all
            select format('column %s %s %s', attrelid::regclass, attname, attnum)
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            join pg_namespace on pg_namespace.oid = relnamespace
            where nspname !~ '^(pg_|information_schema)' and attnum > 0 and not attisdropped
            union all
            select 'function ' || md5(pg_get_functiondef(pg_proc.oid))
            from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
            where nspname !~ '^(pg_|information_schema)' and prokind <> 'a'
            union all
            select format('aggregate %s %s', aggfnoid, aggtransfn) from pg_aggregate
            union all
            select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger
            """
        )
    }


def is_waiting(connection: Connection, pid: int, relation: str | None = None) -> bool:
    return bool(
        value(
            connection,
            "select exists (select from pg_locks where pid = %s and not granted "
            "and (%s::text is null or relation = to_regclass(%s)))",
            pid,
            relation,
            relation,
        )
    )


class Migrating(threading.Thread):
    """A migration that may have to wait, beside the test."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        super().__init__()
        self._conninfo = make_conninfo(conninfo, application_name="migrating", **options)
        self._applied: list[int] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._applied = [step.version for step in migrate(self._conninfo)]
        except Exception as error:  # noqa: BLE001 - raised in the test's thread
            self._error = error

    def wait_for_lock(self, connection: Connection, relation: str) -> None:
        while self.is_alive():
            pid = value(
                connection,
                "select pid from pg_stat_activity where application_name = 'migrating' "
                "and datname = current_database()",
            )
            if pid is not None and is_waiting(connection, pid, relation):
                return
        pytest.fail(f"the migration ended without waiting: {self._error or self._applied}")

    def result(self) -> list[int]:
        self.join()
        if self._error is not None:
            raise self._error
        return self._applied
