"""The reader: mart rows and what they have not seen yet, as the documented response."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg.rows import class_row

from fiml.database import Connection, Database
from fiml.errors import InvalidUserIdError, UnsupportedExportFormatError
from fiml.sessions import queries
from fiml.sessions._arguments import (
    MAX_DAYS,
    check_days,
    check_user_id,
    json_text,
    shown,
)
from fiml.sessions.models import check_session_type

if TYPE_CHECKING:
    from datetime import datetime

    from fiml.sessions.models import Session, SessionType
    from fiml.sessions.store import SessionStore

__all__ = ["MAX_DAYS", "NO_METRICS_MESSAGE", "SessionAnalytics"]

NO_METRICS_MESSAGE: Final = (
    "No session metrics available yet. Create sessions to start tracking analytics."
)

Row = TypeVar("Row")


class SessionAnalytics:
    """Answers questions about sessions, each equal to a scan of the raw rows at its instant."""

    def __init__(self, database: Database | SessionStore) -> None:
        """Read through a store, or through what it connects with (`store._session_maker`)."""
        self._database = (
            database if isinstance(database, Database) else database._session_maker  # noqa: SLF001
        )

    async def get_session_stats(
        self,
        user_id: str | None = None,
        session_type: str | SessionType | None = None,
        days: int = 30,
        *,
        include_meta: bool = False,
    ) -> dict[str, Any]:
        """The documented dictionary for the window `[as_of - days * 24 h, as_of)`.

        `as_of` is the database's time at the start of the read.

        Args:
            user_id: one user; `None` is everybody, sessions without a user included.
            session_type: one of the known types; `None` is every type.
            days: length of the window, 1 to 3650, in days of 24 hours.
            include_meta: add the key `meta`: `as_of`, `window_start`, `horizon` (ISO 8601, UTC),
                `path` ("marts" or "source"), `watermark`, `mart_rows`, `tail_rows`, `source_rows`
                and `set_aside_values`.

        Returns:
            Counts are integers. `avg_duration_seconds` (seconds) and `avg_queries_per_session` are
            rounded half-up to 2 places, `abandonment_rate` (0 to 1) to 4; all three are 0.0 without
            sessions. `message` is there exactly when `total_sessions` is 0.

        Raises:
            InvalidDaysError: `days` is not an integer from 1 to 3650.
            InvalidUserIdError: `user_id` is empty, over-long, no string, or holds what PostgreSQL
                text cannot.
            UnknownSessionTypeError: `session_type` is none of the known ones.
            DatabaseError: the database did not answer; see its subclasses.
        """
        user = None if user_id is None else check_user_id(user_id)
        kind = None if session_type is None else check_session_type(session_type).value
        check_days(days)

        async def read(connection: Connection) -> dict[str, Any]:
            return await read_stats(
                connection,
                user_id=user,
                session_type=kind,
                days=days,
                include_meta=include_meta,
            )

        return await self._database.run(read, is_repeatable=True)

    async def get_user_session_summary(self, user_id: str, days: int = 30) -> dict[str, Any]:
        """The documented dictionary for one user.

        Raises:
            InvalidUserIdError: `user_id` is missing or malformed: a summary is never everybody's.
            InvalidDaysError: `days` is not an integer from 1 to 3650.
            DatabaseError: the database did not answer; see its subclasses.
        """
        if user_id is None:
            raise InvalidUserIdError("user_id is None; expected the id of one user")
        return await self.get_session_stats(user_id=user_id, days=days)

    async def record_session_metrics(self, session: Session) -> bool:
        """Record the metrics of a session that has completed; return whether anything was written.

        Computed from what the database holds of the session. The object itself counts only for a
        session the database does not hold. After archival nothing changes.

        Raises:
            InvalidArgumentError: the object holds what PostgreSQL cannot.
            ErasedUserError: the session's user was erased.
            DatabaseError: the database did not answer; see its subclasses.
        """
        fallback = {
            "user_id": session.user_id,
            "type": str(session.type),
            "assets": session.assets,
            "tags": session.tags,
            "created_at": session.created_at.isoformat(),
            "expires_at": session.expires_at.isoformat() if session.expires_at else None,
            "query_history": session.to_dict()["state"]["history"]["queries"],
            "total_queries": session.state.history.total_queries,
            "is_archived": session.is_archived,
        }

        given = json_text(fallback, "session")

        async def record(connection: Connection) -> bool:
            cursor = await connection.execute(queries.RECORD, [session.id, given])
            row = await cursor.fetchone()
            return bool(row and row[0])

        return await self._database.run(record)

    async def export_session_metrics(
        self,
        format: str = "json",  # noqa: A002 - the documented name
        user_id: str | None = None,
        session_type: str | SessionType | None = None,
        days: int = 30,
    ) -> dict[str, Any] | str:
        """Export the window: `json` the documented dictionary, `csv` a row for each session.

        The CSV text has a header line, RFC 4180 quoting and `\\r\\n` line ends; JSON columns hold
        what is stored.

        Raises:
            UnsupportedExportFormatError: any other format, before anything is read.
            InvalidArgumentError, DatabaseError: as `get_session_stats`.
        """
        if format == "json":
            return await self.get_session_stats(user_id, session_type, days)
        if format != "csv":
            raise UnsupportedExportFormatError(
                f"Unsupported export format: {shown(format)}; expected 'json' or 'csv'"
            )
        user = None if user_id is None else check_user_id(user_id)
        kind = None if session_type is None else check_session_type(session_type).value
        check_days(days)
        question = queries.question_for(has_user=user is not None, has_type=kind is not None)
        parameters = {"as_of": None, "days": days, "user_id": user, "session_type": kind}

        async def write(connection: Connection) -> str:
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            cursor = await connection.execute(question.session_metrics_rows, parameters)
            writer.writerow([column.name for column in cursor.description or ()])
            writer.writerows(await cursor.fetchall())
            return text.getvalue()

        return await self._database.run(write, is_repeatable=True)


async def read_stats(
    connection: Connection,
    *,
    user_id: str | None,
    session_type: str | None,
    days: int,
    include_meta: bool = False,
    as_of: datetime | None = None,
) -> dict[str, Any]:
    """Read one answer, in one round trip, with arguments that were checked.

    A connection that is in a transaction already is read in that transaction's snapshot.
    """
    question = queries.question_for(has_user=user_id is not None, has_type=session_type is not None)
    parameters = {
        "as_of": as_of,
        "days": days,
        "user_id": user_id,
        "session_type": session_type,
    }
    is_idle = connection.info.transaction_status == 0
    try:
        async with connection.pipeline():
            if is_idle:
                await connection.execute(queries.BEGIN)
            stats = await _ask(connection, queries.StatsRow, question.stats, parameters)
            assets = await _ask(connection, queries.CountRow, question.assets, parameters)
            types = await _ask(connection, queries.CountRow, question.query_types, parameters)
            tags = await _ask(connection, queries.CountRow, question.tags, parameters)
            active = await _ask(connection, queries.ActiveRow, question.active, parameters)
            meta = (
                await _ask(connection, queries.MetaRow, question.meta, parameters)
                if include_meta
                else None
            )
            if is_idle:
                await connection.execute(queries.COMMIT)
    except BaseException:
        if is_idle and not connection.closed:
            await connection.rollback()
        raise

    response = _response(
        await stats.fetchall(),
        (await active.fetchall())[0].active_sessions,
        days=days,
        user_id=user_id,
        session_type=session_type,
        assets=await assets.fetchall(),
        query_types=await types.fetchall(),
        tags=await tags.fetchall(),
    )
    if meta is not None:
        response["meta"] = _meta((await meta.fetchall())[0])
    return response


async def _ask(
    connection: Connection, row: type[Row], statement: str, parameters: dict[str, Any]
) -> Any:
    cursor = connection.cursor(binary=True, row_factory=class_row(row))
    return await cursor.execute(statement, parameters)


def _response(
    stats: list[queries.StatsRow],
    active_sessions: int,
    *,
    days: int,
    user_id: str | None,
    session_type: str | None,
    assets: list[queries.CountRow],
    query_types: list[queries.CountRow],
    tags: list[queries.CountRow],
) -> dict[str, Any]:
    sessions = sum(row.sessions for row in stats)
    queries_run = sum(row.queries for row in stats)
    # By count, then by name as bytes: the same order as the counted names have.
    breakdown = sorted(
        (row for row in stats if row.sessions),
        key=lambda row: (-row.sessions, row.session_type.encode()),
    )
    response: dict[str, Any] = {
        "status": "success",
        "total_sessions": sessions,
        "active_sessions": active_sessions,
        "archived_sessions": sum(row.archived_sessions for row in stats),
        "total_queries": queries_run,
        "avg_duration_seconds": _ratio(sum(row.duration_seconds for row in stats), sessions, 2),
        "avg_queries_per_session": _ratio(queries_run, sessions, 2),
        "abandonment_rate": _ratio(sum(row.abandoned_sessions for row in stats), sessions, 4),
        "period_days": days,
        "user_id": user_id,
        "session_type": session_type,
        "top_assets": [{"symbol": row.name, "count": row.occurrences} for row in assets],
        "query_type_distribution": {row.name: row.occurrences for row in query_types},
        "session_type_breakdown": {row.session_type: row.sessions for row in breakdown},
        "popular_tags": [{"tag": row.name, "count": row.occurrences} for row in tags],
    }
    if sessions == 0:
        response["message"] = NO_METRICS_MESSAGE
    return response


def _meta(row: queries.MetaRow) -> dict[str, Any]:
    return {
        "as_of": row.as_of.isoformat(),
        "window_start": row.window_start.isoformat(),
        "horizon": None if row.horizon is None else row.horizon.isoformat(),
        "path": "source" if row.watermark is None else "marts",
        "watermark": row.watermark,
        "mart_rows": row.mart_rows,
        "tail_rows": row.tail_rows,
        "source_rows": row.source_rows,
        "set_aside_values": row.set_aside_values,
    }


def _ratio(total: int, count: int, places: int) -> float:
    """`total / count`, rounded half-up to `places` in whole numbers; a float only at the end."""
    if count == 0:
        return 0.0
    shift: int = 10**places
    return ((2 * total * shift + count) // (2 * count)) / shift
