"""A database with writers, builders and a reader, on which histories are played.

Every step is played to its end before the next begins; what interleaves are transactions: writers
keep theirs open across builds, and builds open windows that they fold later, or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from exactness.oracle import assert_same, expected_set_aside, expected_stats, read_source
from psycopg import errors
from psycopg.types.json import Jsonb

from fiml.sessions.analytics import read_stats
from fiml.warehouse.fold import fold, fold_mart, open_window
from fiml.warehouse.project import Mart

WRITERS = 3
# A writer that would wait for another one's transaction is refused and rolls back: it is the same
# thread that would have to end the other one.
SETTINGS = "-c lock_timeout=20ms -c jit=off -c TimeZone=UTC -c synchronous_commit=off"


@dataclass(frozen=True)
class Metrics:
    """A session_metrics row."""

    session: UUID
    user_id: str | None
    session_type: str
    created_at: datetime
    duration_seconds: int
    total_queries: int
    assets: Any
    query_types: Any
    tags: Any
    abandoned: bool
    completed: bool


@dataclass(frozen=True)
class Session:
    """A sessions row."""

    id: UUID
    user_id: str | None
    session_type: str
    tags: Any
    created_at: datetime
    expires_at: datetime | None
    is_archived: bool
    archived_at: datetime | None


class World:
    """One database and everybody who is connected to it."""

    def __init__(self, conninfo: str, marts: Sequence[Mart]) -> None:
        self.conninfo = conninfo
        self.marts = {mart.name: mart for mart in marts}
        self.writers = [
            psycopg.connect(conninfo, autocommit=True, options=SETTINGS) for _ in range(WRITERS)
        ]
        self.builder = psycopg.connect(conninfo, autocommit=True, options=SETTINGS)
        self.oracle = psycopg.connect(conninfo, autocommit=True, options=SETTINGS)
        self.loop = asyncio.new_event_loop()
        self.reader: psycopg.AsyncConnection[Any] = self.loop.run_until_complete(
            psycopg.AsyncConnection.connect(
                conninfo,
                autocommit=True,
                prepare_threshold=0,
                options=SETTINGS + " -c plan_cache_mode=force_generic_plan",
            )
        )
        self.runs = 0
        self.windows: list[str] = []

    def close(self) -> None:
        for connection in (*self.writers, self.builder, self.oracle):
            connection.close()
        self.loop.run_until_complete(self.reader.close())
        self.loop.close()

    def clear(self) -> None:
        """Back to an installed, empty database."""
        for writer in self.writers:
            writer.rollback()
        with self.builder.transaction():
            for table in (
                "sessions",
                "session_metrics",
                "analytics.session_changes",
                "analytics.build_windows",
                "analytics.quarantine",
                "analytics.erased_users",
                *(f"marts.{name}" for name in self.marts),
            ):
                self.builder.execute(f"delete from {table}")
            self.builder.execute("delete from analytics.user_keys where user_id is not null")
            self.builder.execute("update analytics.settings set horizon = '-infinity'")
            self.builder.execute(
                "update analytics.watermarks set window_id = 0, watermark = null, "
                "previous_watermark = null, is_rebuild_requested = false"
            )
        self.windows = []

    # Writers ------------------------------------------------------------------------------------

    def write(self, writer: int, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Let a writer do one statement; a refusal ends its transaction, as it would anybody's."""
        connection = self.writers[writer % WRITERS]
        try:
            connection.execute(statement, parameters)
        except (
            errors.LockNotAvailable,
            errors.UniqueViolation,
            errors.DeadlockDetected,
            errors.SerializationFailure,
            errors.InFailedSqlTransaction,
            errors.InvalidSavepointSpecification,
            errors.NoActiveSqlTransaction,
            errors.ActiveSqlTransaction,
        ):
            connection.rollback()
        except psycopg.Error as error:
            # An erased user, and an erasure in a snapshot that may be too old.
            if error.sqlstate != "FA001" and "READ COMMITTED" not in str(error):
                raise
            connection.rollback()

    def insert_metrics(self, writer: int, rows: Sequence[Metrics], *, upsert: bool) -> None:
        rows = _distinct(rows)
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
        conflict = (
            "do update set user_id = excluded.user_id, session_type = excluded.session_type, "
            "created_at = excluded.created_at, total_queries = excluded.total_queries, "
            "duration_seconds = excluded.duration_seconds, tags = excluded.tags, "
            "assets_analyzed = excluded.assets_analyzed, abandoned = excluded.abandoned, "
            "query_type_summary = excluded.query_type_summary"
            if upsert
            else "do nothing"
        )
        self.write(
            writer,
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, total_queries, assets_analyzed, query_type_summary, tags, "
            "abandoned, completed_normally) "
            f"values {values} on conflict (session_id) {conflict}",
            [
                value
                for row in rows
                for value in (
                    row.session,
                    row.user_id,
                    row.session_type,
                    row.created_at,
                    row.duration_seconds,
                    row.total_queries,
                    Jsonb(row.assets),
                    Jsonb(row.query_types),
                    None if row.tags is None else Jsonb(row.tags),
                    row.abandoned,
                    row.completed,
                )
            ],
        )

    def insert_session(self, writer: int, row: Session) -> None:
        self.write(
            writer,
            "insert into sessions (id, user_id, type, tags, created_at, expires_at, is_archived, "
            "archived_at) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (id) do update "
            "set is_archived = excluded.is_archived, archived_at = excluded.archived_at, "
            "expires_at = excluded.expires_at, type = excluded.type, user_id = excluded.user_id",
            [
                row.id,
                row.user_id,
                row.session_type,
                Jsonb(row.tags),
                row.created_at,
                row.expires_at,
                row.is_archived,
                row.archived_at,
            ],
        )

    # Builds -------------------------------------------------------------------------------------

    def open_window(self) -> None:
        self.runs += 1
        run_id = f"run {self.runs}"
        self._build(lambda: open_window(self.builder, run_id))
        self.windows.append(run_id)

    def fold_one(self, window: int, mart: int) -> None:
        """Fold one mart with a window that is open, which need not be the newest."""
        if self.windows:
            run_id = self.windows[-1 - window % len(self.windows)]
            name = sorted(self.marts)[mart % len(self.marts)]
            self._build(lambda: fold_mart(self.builder, self.marts[name], run_id))

    def build(self) -> None:
        self.runs += 1
        run_id = f"run {self.runs}"
        self._build(lambda: fold(self.builder, self.marts.values(), run_id))

    def request_rebuild(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.request_rebuild()"))

    def prune(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.prune_changes('0')"))

    def _build(self, step: Any) -> None:
        try:
            step()
        except errors.LockNotAvailable:
            # A writer's transaction holds what the step needs; a real build would wait for it.
            self.builder.rollback()

    # Readers ------------------------------------------------------------------------------------

    def check(
        self,
        *,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int = 30,
        as_of: datetime | None = None,
    ) -> dict[str, Any]:
        """Read, and compare with the oracle in the reader's own snapshot."""
        return self.loop.run_until_complete(self._check(user_id, session_type, days, as_of))

    def read(
        self,
        *,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int = 30,
        as_of: datetime | None = None,
        include_meta: bool = False,
    ) -> dict[str, Any]:
        """Read without comparing."""
        return self.loop.run_until_complete(
            read_stats(
                self.reader,
                user_id=user_id,
                session_type=session_type,
                days=days,
                as_of=as_of,
                include_meta=include_meta,
            )
        )

    async def _check(
        self, user_id: str | None, session_type: str | None, days: int, as_of: datetime | None
    ) -> dict[str, Any]:
        question: dict[str, Any] = {
            "user_id": user_id,
            "session_type": session_type,
            "days": days,
            "as_of": as_of,
        }
        await self.reader.execute("begin isolation level repeatable read")
        try:
            cursor = await self.reader.execute("select pg_export_snapshot()")
            exported = await cursor.fetchone()
            found = await read_stats(self.reader, **question, include_meta=True)
            cursor = await self.reader.execute("select transaction_timestamp()")
            now = await cursor.fetchone()
            source = self._source_at(exported[0] if exported else "")
        finally:
            await self.reader.rollback()
        question["as_of"] = as_of or (now[0] if now else None)
        meta = found.pop("meta")
        assert_same(found, expected_stats(source, **question))
        assert meta["set_aside_values"] == expected_set_aside(source, **question)
        return found

    def _source_at(self, snapshot: str) -> dict[str, Any]:
        with self.oracle.transaction():
            self.oracle.execute("set transaction isolation level repeatable read, read only")
            self.oracle.execute(f"set transaction snapshot '{snapshot}'")
            return read_source(self.oracle)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """What every mart holds, sorted."""
        return {
            name: sorted(
                self.builder.execute(
                    f"select {', '.join(mart.columns)} from marts.{name}"
                ).fetchall(),
                key=repr,
            )
            for name, mart in self.marts.items()
        }

    def check_incremental_equals_scratch(self) -> None:
        """End every transaction, build, rebuild from the source, and compare row by row."""
        for writer in self.writers:
            writer.rollback()
        self.build()
        incremental = self.rows()
        self.builder.execute("select analytics.request_rebuild()")
        self.open_window()
        for mart in self.marts.values():
            assert fold_mart(self.builder, mart, self.windows[-1]) == "rebuild"
        assert incremental == self.rows()


def _distinct(rows: Sequence[Metrics]) -> Sequence[Metrics]:
    # One statement cannot upsert the same row twice.
    return rows if len({row.session for row in rows}) == len(rows) else rows[:1]
