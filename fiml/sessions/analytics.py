"""The reader: mart rows and what they have not seen yet, as the documented response."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from fiml.database import Connection, Database
from fiml.errors import InvalidArgumentError, InvalidUserIdError
from fiml.exports.exporting import (
    Format,
    Wanted,
    check_flag_of,
    check_format,
    export,
    report_of,
    stream_sessions,
)
from fiml.exports.reading import Subject
from fiml.monitoring.reads import Operation, Path, Reading
from fiml.sessions import queries
from fiml.sessions._arguments import (
    MAX_DAYS,
    MAX_INTEGER,
    MAX_NAME_LENGTH,
    MAX_TYPE_LENGTH,
    check_flag,
    check_user_id,
    json_text,
    shown,
)
from fiml.sessions._time_arguments import check_grain, check_timezone, check_window
from fiml.sessions.reading import read_series, read_stats, read_window_stats
from fiml.sessions.response import NO_METRICS_MESSAGE
from fiml.sessions.serving import ServingCache
from fiml.sessions.session_types import check_session_type

if TYPE_CHECKING:
    from datetime import datetime

    from fiml.exports.report import Report
    from fiml.sessions.models import Session
    from fiml.sessions.periods import Grain
    from fiml.sessions.session_types import SessionType
    from fiml.sessions.store import SessionStore

__all__ = ["MAX_DAYS", "NO_METRICS_MESSAGE", "SessionAnalytics"]

_EXPORTS: Final = {
    Format.JSON: Operation.EXPORT_JSON,
    Format.CSV: Operation.EXPORT_CSV,
    Format.XLSX: Operation.EXPORT_XLSX,
    Format.PDF: Operation.EXPORT_PDF,
}


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
        hours: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        include_meta: bool = False,
    ) -> dict[str, Any]:
        """The documented dictionary for the window `[as_of - days * 24 h, as_of)`, or another one.

        `as_of` is the database's time at the start of the read.

        Args:
            user_id: one user; `None` is everybody, sessions without a user included.
            session_type: one of the known types; `None` is every type.
            days: length of the window, 1 to 3650, in days of 24 hours.
            hours: the same in hours, 1 to 87600, in the place of `days`.
            since: when the window begins, in the place of `days`: a datetime with a time zone, or
                ISO 8601 text, which without an offset is UTC. At most 3650 days before the end.
            until: when it ends, exclusive; `None`, and whatever is ahead, is `as_of`.
            include_meta: add the key `meta`: `as_of`, `window_start`, `horizon` (ISO 8601, UTC),
                `path` ("serving", "marts" or "source"), `watermark`, how many rows were read where
                (`serving_rows`, `mart_rows`, `tail_rows`, `source_rows`) and `set_aside_values`.

        Returns:
            Counts are integers. `avg_duration_seconds` (seconds) and `avg_queries_per_session` are
            rounded half-up to 2 places, `abandonment_rate` (0 to 1) to 4; all three are 0.0 without
            sessions. `message` is there exactly when `total_sessions` is 0.
            Of another window than one of `days` there are the keys `since` and `until` (ISO 8601,
            UTC), `period_days` may be None, and where it ends before `as_of`, `active_sessions` is.

        Raises:
            InvalidDaysError: `days` is not an integer from 1 to 3650.
            InvalidUserIdError: `user_id` is empty, over-long, no string, or holds what PostgreSQL
                text cannot.
            UnknownSessionTypeError: `session_type` is none of the known ones.
            InvalidArgumentError: `hours`, `since` or `until` is malformed or out of range, `since`
                is not before `until`, there are both `hours` and `since`, or `include_meta` is
                neither true nor false.
            DatabaseError: the database did not answer; see its subclasses.
        """
        user = None if user_id is None else check_user_id(user_id)
        kind = None if session_type is None else check_session_type(session_type).value
        window = check_window(days, hours, since, until)
        check_flag(include_meta, "include_meta")

        async def read(connection: Connection) -> dict[str, Any]:
            if hours is not None or since is not None or until is not None:
                return await read_window_stats(
                    connection,
                    user_id=user,
                    session_type=kind,
                    window=window,
                    include_meta=include_meta,
                    cache=self._cache,
                )
            return await read_stats(
                connection,
                user_id=user,
                session_type=kind,
                days=days,
                include_meta=include_meta,
                cache=self._cache,
            )

        with Reading(Operation.STATS, {"session_type": kind, "days": window.days}):
            return await self._database.run(read, is_repeatable=True)

    async def get_session_timeseries(
        self,
        user_id: str | None = None,
        session_type: str | SessionType | None = None,
        days: int = 30,
        *,
        hours: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        grain: str | Grain = "day",
        timezone: str = "UTC",
        fill: bool = True,
        include_meta: bool = False,
    ) -> dict[str, Any]:
        """The figures of each calendar period of a window; together they are those of the window.

        Args:
            user_id, session_type, days, hours, since, until, include_meta: as `get_session_stats`;
                text without an offset is local to `timezone`.
            grain: "hour", "day", "week" (from Monday, ISO 8601) or "month".
            timezone: the IANA name of the zone whose calendar it is: its days have 23 to 25 hours.
            fill: also give periods in which nothing was created or archived.

        Returns:
            `grain`, `timezone`, `since`, `until`, `as_of` (ISO 8601, UTC), the filters, and
            `periods`, in the order of time. Each has `period_start` (inclusive) and `period_end`
            (exclusive), ISO 8601 in the zone; `is_partial`, where the window cuts it; `is_open`,
            where it goes on; and the figures of `get_session_stats`, of which `active_sessions` is
            None but in the open one.

        Raises:
            InvalidArgumentError: as `get_session_stats`; `grain` or `timezone` is none of the known
                ones, `fill` is neither true nor false, or there would be more than 3700 periods.
            DatabaseError: the database did not answer; see its subclasses.
        """
        user = None if user_id is None else check_user_id(user_id)
        kind = None if session_type is None else check_session_type(session_type).value
        zone = check_timezone(timezone)
        window = check_window(days, hours, since, until, zone)
        of_grain = check_grain(grain)
        check_flag(fill, "fill")
        check_flag(include_meta, "include_meta")

        async def read(connection: Connection) -> dict[str, Any]:
            return await read_series(
                connection,
                user_id=user,
                session_type=kind,
                window=window,
                grain=of_grain,
                zone=zone,
                fill=fill,
                include_meta=include_meta,
                cache=self._cache,
            )

        asked = {"session_type": kind, "days": window.days, "grain": of_grain}
        with Reading(Operation.TIMESERIES, asked):
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
        *,
        hours: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        grain: str | Grain | None = None,
        timezone: str = "UTC",
        include_sessions: bool = False,
        spreadsheet_safe: bool = False,
    ) -> dict[str, Any] | str | bytes:
        """Export the window: its figures, its periods or its sessions; or a report of it.

        Args:
            format: "json", "csv", "xlsx" or "pdf".
            user_id, session_type, days, hours, since, until: as `get_session_stats`; text without
                an offset is local to `timezone`.
            grain: as `get_session_timeseries`. Of JSON and CSV it asks for the periods; of the
                others it says how long these are, and None fits them to the window.
            timezone: the IANA name of the zone whose calendar the periods follow.
            include_sessions: of XLSX: add a sheet with a row for each session.
            spreadsheet_safe: of CSV: put an apostrophe before what a spreadsheet might take for a
                formula. `fiml.exports.rows.plain_cell` takes it away again.

        Returns:
            `json`: the documented dictionary; with `grain`, that of the time series.
            `csv`: text with a row for each session; with `grain`, for each period. It has a header
            line, RFC 4180 quoting and `\\r\\n` line ends; JSON columns hold what is stored.
            `xlsx`: the bytes of a workbook with a sheet for each topic, and charts.
            `pdf`: the bytes of a report of two or three pages.
            The last two compare with the window before, which is as long; all that they say was
            read in one snapshot.

        Raises:
            UnsupportedExportFormatError: any other format, before anything is read.
            InvalidArgumentError: as `get_session_timeseries`; a flag with another format than its
                own.
            DatabaseError: as `get_session_stats`.
            ModuleNotFoundError: a package of the extra `export` is not installed.
        """
        wanted = check_format(format)
        request = Wanted(
            wanted,
            _subject(user_id, session_type, days, hours, since, until, timezone),
            None if grain is None else check_grain(grain),
            check_flag_of(include_sessions, "include_sessions", wanted, Format.XLSX),
            check_flag_of(spreadsheet_safe, "spreadsheet_safe", wanted, Format.CSV),
        )
        asked = request.subject.asked | {"grain": request.grain}
        with Reading(_EXPORTS[wanted], asked):
            return await export(self._database, request, self._cache)

    async def get_session_report(
        self,
        user_id: str | None = None,
        session_type: str | SessionType | None = None,
        days: int = 30,
        *,
        hours: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        grain: str | Grain | None = None,
        timezone: str = "UTC",
    ) -> Report:
        """What the exports "xlsx" and "pdf" say, of one snapshot, before it is written.

        `fiml.exports.document.render_report` and `fiml.exports.workbook.render_workbook` write it.

        Args:
            user_id, session_type, days, hours, since, until, grain, timezone: as
                `export_session_metrics`.

        Raises:
            InvalidArgumentError: as `export_session_metrics`.
            DatabaseError: as `get_session_stats`; the deadline is that of four answers.
        """
        subject = _subject(user_id, session_type, days, hours, since, until, timezone)
        of_grain = None if grain is None else check_grain(grain)
        with Reading(Operation.REPORT, subject.asked | {"grain": of_grain}):
            return await report_of(self._database, subject, of_grain, self._cache)

    def stream_session_metrics(
        self,
        user_id: str | None = None,
        session_type: str | SessionType | None = None,
        days: int = 30,
        *,
        hours: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        timezone: str = "UTC",
    ) -> AsyncGenerator[list[dict[str, str | None]], None]:
        """The rows of the CSV export, a thousand at a time, however many there are.

        All are of one snapshot. Closing the iterator early frees its connection; whoever pauses for
        more than ten minutes between two batches loses it, with a `DatabaseError`.

        Args:
            user_id, session_type, days, hours, since, until, timezone: as `export_session_metrics`.

        Yields:
            Rows in the order of creation, each with the columns of the CSV export as text.

        Raises:
            InvalidArgumentError: as `export_session_metrics`, at the call.
            DatabaseError: as `get_session_stats`; the deadline is that of each batch.
        """
        subject = _subject(user_id, session_type, days, hours, since, until, timezone)

        async def named() -> AsyncGenerator[list[dict[str, str | None]], None]:
            # Whoever reads them sets the pace, and does other things between two of them.
            stream = Reading(Operation.STREAM, subject.asked, path=Path.SOURCE, is_current=False)
            with stream:
                async with aclosing(stream_sessions(self._database, subject)) as batches:
                    async for rows in batches:
                        yield [dict(zip(queries.SESSION_COLUMNS, row, strict=True)) for row in rows]

        return named()


def _subject(
    user_id: str | None,
    session_type: str | SessionType | None,
    days: int,
    hours: int | None,
    since: datetime | str | None,
    until: datetime | str | None,
    timezone: str,
) -> Subject:
    user = None if user_id is None else check_user_id(user_id)
    kind = None if session_type is None else check_session_type(session_type).value
    zone = check_timezone(timezone)
    window = check_window(days, hours, since, until, zone)
    is_of_days = hours is None and since is None and until is None
    return Subject(user, kind, days if is_of_days else None, window, zone)


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
