"""Writers, who keep their transactions open across builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from exactness.world.connected import WRITERS, Connected
from exactness.world.rows import Metrics, Session
from psycopg import errors
from psycopg.types.json import Jsonb

__all__ = ["Writers"]


class Writers(Connected):
    """What they write, one statement at a time."""

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


def _distinct(rows: Sequence[Metrics]) -> Sequence[Metrics]:
    # One statement cannot upsert the same row twice.
    return rows if len({row.session for row in rows}) == len(rows) else rows[:1]
