"""The reader: mart rows and what they have not seen yet, as the documented response."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg.rows import class_row

from fiml.database import Connection, Database
from fiml.errors import InvalidArgumentError, InvalidUserIdError, UnsupportedExportFormatError
from fiml.sessions import queries
from fiml.sessions._arguments import (
    MAX_DAYS,
    MAX_INTEGER,
    MAX_NAME_LENGTH,
    MAX_TYPE_LENGTH,
    check_days,
    check_flag,
    check_user_id,
    json_text,
    shown,
)
from fiml.sessions.figures import Figures, by_frequency
from fiml.sessions.queries import MetaRow
from fiml.sessions.serving import ServingCache
from fiml.sessions.session_types import check_session_type
from fiml.sessions.windows import Question, read_user_window, read_window

if TYPE_CHECKING:
    from datetime import datetime

    from fiml.sessions.models import Session
    from fiml.sessions.session_types import SessionType
    from fiml.sessions.store import SessionStore

__all__ = ["MAX_DAYS", "NO_METRICS_MESSAGE", "SessionAnalytics"]

NO_METRICS_MESSAGE: Final = (
    "No session metrics available yet. Create sessions to start tracking analytics."
)

Row = TypeVar("Row")


class SessionAnalytics:
    """Answers questions about sessions, each equal to a scan of the raw rows at its instant."""

    def __init__(self, database: Database | SessionStore) -> None:
        """Read through a store, or through what it connects with (`store._session_maker`).

        Raises:
            InvalidArgumentError: it is neither.
        """
        connected = getattr(database, "_session_maker", database)
        if not isinstance(connected, Database):
            raise InvalidArgumentError(
                f"database is of type {type(database).__name__}; expected a SessionStore, or its "
                "_session_maker"
            )
        self._database = connected
        self._cache = ServingCache()

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
                `path` ("serving", "marts" or "source"), `watermark`, how many rows were read where
                (`serving_rows`, `mart_rows`, `tail_rows`, `source_rows`) and `set_aside_values`.

        Returns:
            Counts are integers. `avg_duration_seconds` (seconds) and `avg_queries_per_session` are
            rounded half-up to 2 places, `abandonment_rate` (0 to 1) to 4; all three are 0.0 without
            sessions. `message` is there exactly when `total_sessions` is 0.

        Raises:
            InvalidDaysError: `days` is not an integer from 1 to 3650.
            InvalidUserIdError: `user_id` is empty, over-long, no string, or holds what PostgreSQL
                text cannot.
            UnknownSessionTypeError: `session_type` is none of the known ones.
            InvalidArgumentError: `include_meta` is neither true nor false.
            DatabaseError: the database did not answer; see its subclasses.
        """
        user = None if user_id is None else check_user_id(user_id)
        kind = None if session_type is None else check_session_type(session_type).value
        check_days(days)
        check_flag(include_meta, "include_meta")

        async def read(connection: Connection) -> dict[str, Any]:
            return await read_stats(
                connection,
                user_id=user,
                session_type=kind,
                days=days,
                include_meta=include_meta,
                cache=self._cache,
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
            InvalidArgumentError: `session` is no `Session`, or holds what PostgreSQL cannot.
            ErasedUserError: the session's user was erased.
            DatabaseError: the database did not answer; see its subclasses.
        """
        _check_session(session)
        fallback = {
            "user_id": session.user_id,
            "type": str(session.type),
            "assets": session.assets,
            "tags": session.tags,
            "created_at": session.created_at.isoformat(),
            "expires_at": session.expires_at.isoformat() if session.expires_at else None,
            "query_history": session.to_dict()["state"]["history"]["queries"],
            "total_queries": min(session.state.history.total_queries, MAX_INTEGER),
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
        statement = queries.session_metrics_rows(
            has_user=user is not None, has_type=kind is not None
        )
        parameters = {"as_of": None, "days": days, "user_id": user, "session_type": kind}

        async def write(connection: Connection) -> str:
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            cursor = await connection.execute(statement, parameters)
            writer.writerow([column.name for column in cursor.description or ()])
            writer.writerows(await cursor.fetchall())
            return text.getvalue()

        return await self._database.run(write, is_repeatable=True)


def _check_session(session: object) -> None:
    # Here, because reading needs no pydantic.
    from fiml.sessions.models import Session

    if not isinstance(session, Session):
        raise InvalidArgumentError(
            f"session is of type {type(session).__name__}; expected a Session"
        )
    # What other programs stored has room in the columns; anything else a session may say of itself.
    if len(session.user_id or "") > MAX_NAME_LENGTH:
        raise InvalidUserIdError(
            f"session.user_id has {len(session.user_id or '')} characters; "
            f"expected at most {MAX_NAME_LENGTH}"
        )
    if len(session.type) > MAX_TYPE_LENGTH:
        raise InvalidArgumentError(
            f"session.type is {shown(str(session.type))}; "
            f"expected at most {MAX_TYPE_LENGTH} characters"
        )


async def read_stats(
    connection: Connection,
    *,
    user_id: str | None,
    session_type: str | None,
    days: int,
    include_meta: bool = False,
    as_of: datetime | None = None,
    cache: ServingCache | None = None,
    path: str | None = None,
) -> dict[str, Any]:
    """Read one answer, with arguments that were checked.

    A connection that is in a transaction already is read in that transaction's snapshot.

    Args:
        connection: in autocommit, or in a transaction of the caller's.
        user_id, session_type, days, include_meta: as `get_session_stats`.
        as_of: the end of the window; by default the transaction's own time.
        cache: what was read of the serving layer before.
        path: "serving", "marts" or "source", where it has to be that one if it can; by default the
            first of them that can answer.
    """
    question = Question(user_id, session_type, days, as_of, include_meta)
    found: tuple[Figures, MetaRow | None] | None = None
    cache = ServingCache() if cache is None else cache
    # Who was found heavy is asked for there at once.
    is_heavy = path is None and cache.kept((user_id, session_type, days)) is not None
    if user_id is not None and path != "serving" and not is_heavy:
        found = await read_user_window(connection, question, may_be_heavy=path is None)
    if found is None and path in {None, "serving"}:
        found = await read_window(connection, question, cache)
    if found is None and user_id is not None:
        found = await read_user_window(connection, question, may_be_heavy=False)
    if found is None:
        found = await _read_marts(connection, question, is_source_only=path == "source")
    figures, meta = found
    response = _response(figures, question)
    if include_meta and meta is not None:
        response["meta"] = _meta(meta)
    return response


async def _read_marts(
    connection: Connection, question: Question, *, is_source_only: bool
) -> tuple[Figures, MetaRow | None]:
    """Read from the marts in one round trip, each at its own watermark in one snapshot."""
    statements = queries.mart_question(has_type=question.session_type is not None)
    parameters = question.parameters(is_source_only=is_source_only)
    is_idle = connection.info.transaction_status == 0
    try:
        async with connection.pipeline():
            if is_idle:
                await connection.execute(queries.BEGIN)
            stats = await _ask(connection, queries.StatsRow, statements.stats, parameters)
            assets = await _ask(connection, queries.CountRow, statements.assets, parameters)
            types = await _ask(connection, queries.CountRow, statements.query_types, parameters)
            tags = await _ask(connection, queries.CountRow, statements.tags, parameters)
            active = await _ask(connection, queries.ActiveRow, statements.active, parameters)
            meta = (
                await _ask(connection, queries.MetaRow, statements.meta, parameters)
                if question.include_meta
                else None
            )
            if is_idle:
                await connection.execute(queries.COMMIT)
    except BaseException:
        if is_idle and not connection.closed:
            await connection.rollback()
        raise
    rows: list[queries.StatsRow] = await stats.fetchall()
    figures = Figures(
        sessions=sum(row.sessions for row in rows),
        active_sessions=(await active.fetchall())[0].active_sessions,
        archived_sessions=sum(row.archived_sessions for row in rows),
        queries=sum(row.queries for row in rows),
        duration_seconds=sum(row.duration_seconds for row in rows),
        abandoned_sessions=sum(row.abandoned_sessions for row in rows),
        session_types=by_frequency((row.session_type, row.sessions) for row in rows),
        query_types=[(row.name, row.occurrences) for row in await types.fetchall()],
        assets=[(row.name, row.occurrences) for row in await assets.fetchall()],
        tags=[(row.name, row.occurrences) for row in await tags.fetchall()],
    )
    return figures, None if meta is None else (await meta.fetchall())[0]


async def _ask(
    connection: Connection, row: type[Row], statement: str, parameters: dict[str, object]
) -> Any:
    cursor = connection.cursor(binary=True, row_factory=class_row(row))
    return await cursor.execute(statement, parameters)


def _response(figures: Figures, question: Question) -> dict[str, Any]:
    sessions = figures.sessions
    response: dict[str, Any] = {
        "status": "success",
        "total_sessions": sessions,
        "active_sessions": figures.active_sessions,
        "archived_sessions": figures.archived_sessions,
        "total_queries": figures.queries,
        "avg_duration_seconds": _ratio(figures.duration_seconds, sessions, 2),
        "avg_queries_per_session": _ratio(figures.queries, sessions, 2),
        "abandonment_rate": _ratio(figures.abandoned_sessions, sessions, 4),
        "period_days": question.days,
        "user_id": question.user_id,
        "session_type": question.session_type,
        "top_assets": [{"symbol": name, "count": count} for name, count in figures.assets],
        "query_type_distribution": dict(figures.query_types),
        "session_type_breakdown": dict(figures.session_types),
        "popular_tags": [{"tag": name, "count": count} for name, count in figures.tags],
    }
    if sessions == 0:
        response["message"] = NO_METRICS_MESSAGE
    return response


def _meta(row: MetaRow) -> dict[str, Any]:
    return {
        "as_of": row.as_of.isoformat(),
        "window_start": row.window_start.isoformat(),
        "horizon": None if row.horizon is None else row.horizon.isoformat(),
        "path": row.path,
        "watermark": row.watermark,
        "serving_rows": row.serving_rows,
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
