"""Reads answers, with arguments that were checked, on the first path that can give them.

A connection that is in a transaction already is read in that transaction's snapshot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from psycopg.rows import tuple_row

from fiml.database import Connection
from fiml.sessions import queries
from fiml.sessions.figures import Figures
from fiml.sessions.marts import count_in_marts, read_marts
from fiml.sessions.periods import Grain, Period, Window, divide
from fiml.sessions.queries import MetaRow
from fiml.sessions.questions import Name, PeriodsQuestion, Question
from fiml.sessions.response import meta_response, series_response, stats_response
from fiml.sessions.serving import ServingCache
from fiml.sessions.windows import (
    count_in_periods,
    count_in_user_periods,
    read_periods,
    read_user_periods,
    read_user_window,
    read_window,
)

__all__ = ["had_begun", "read_name_counts", "read_series", "read_stats", "read_window_stats"]

T = TypeVar("T")

_DAY = timedelta(days=1)


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
    """Read the documented answer for a window of days that ends now.

    Args:
        connection: in autocommit, or in a transaction of the caller's.
        user_id, session_type, days, include_meta: as `SessionAnalytics.get_session_stats`.
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
        of_marts, meta = await read_marts(connection, question, is_source_only=path == "source")
        found = of_marts[0], meta
    figures, meta = found
    response = stats_response(
        figures, user_id=user_id, session_type=session_type, window={"period_days": days}
    )
    if include_meta and meta is not None:
        response["meta"] = meta_response(meta)
    return response


async def read_window_stats(
    connection: Connection,
    *,
    user_id: str | None,
    session_type: str | None,
    window: Window,
    include_meta: bool = False,
    as_of: datetime | None = None,
    cache: ServingCache | None = None,
    path: str | None = None,
) -> dict[str, Any]:
    """Read the documented answer for any window; arguments as `read_stats`."""
    now = await _now(connection) if as_of is None else as_of
    since, until = window.bounds(now)
    question = PeriodsQuestion(user_id, session_type, (since, until), now, include_meta)
    (figures,), meta = await _read_periods(connection, question, cache, path)
    days = None if window.length is None else window.length / _DAY
    response = stats_response(
        figures,
        user_id=user_id,
        session_type=session_type,
        window={
            "period_days": int(days) if days is not None and days.is_integer() else None,
            "since": since.isoformat(),
            "until": until.isoformat(),
        },
        is_open=until == now,
    )
    if include_meta and meta is not None:
        response["meta"] = meta_response(meta)
    return response


async def read_series(
    connection: Connection,
    *,
    user_id: str | None,
    session_type: str | None,
    window: Window,
    grain: Grain,
    zone: ZoneInfo,
    fill: bool = True,
    include_meta: bool = False,
    as_of: datetime | None = None,
    cache: ServingCache | None = None,
    path: str | None = None,
    has_names: bool = True,
) -> dict[str, Any]:
    """Read the documented time series.

    Args:
        connection, include_meta, as_of, cache, path: as `read_stats`.
        user_id, session_type, window, grain, zone, fill: as
            `SessionAnalytics.get_session_timeseries`.
        has_names: without them the periods have the single figures alone, the same ones; of ninety
            days that takes a tenth of the time.
    """
    now = await _now(connection) if as_of is None else as_of
    since, until = window.bounds(now)
    periods = divide(since, until, grain, zone, now)
    figures: Sequence[Figures] = ()
    meta = None
    if periods:
        question = PeriodsQuestion(
            user_id, session_type, _boundaries(periods), now, include_meta, has_names
        )
        figures, meta = await _read_periods(connection, question, cache, path)
    response = series_response(
        [
            (period, its)
            for period, its in zip(periods, figures, strict=True)
            if fill or its.sessions or its.archived_sessions
        ],
        user_id=user_id,
        session_type=session_type,
        grain=grain,
        zone=zone,
        window={"since": since.isoformat(), "until": until.isoformat(), "as_of": now.isoformat()},
    )
    if include_meta and meta is not None:
        response["meta"] = meta_response(meta)
    return response


async def read_name_counts(
    connection: Connection,
    *,
    name: Name,
    user_id: str | None,
    session_type: str | None,
    window: Window,
    grain: Grain,
    zone: ZoneInfo,
    as_of: datetime | None = None,
    cache: ServingCache | None = None,
    path: str | None = None,
) -> list[int]:
    """Read how often a name counts in each period of a time series.

    Args:
        name: what is counted, as an answer counts it: how often an asset or a tag stands in
            sessions, how many queries are of a type.
        connection, user_id, session_type, window, grain, zone, as_of, cache, path: as
            `read_series`, whose periods they are, each of them.
    """
    now = await _now(connection) if as_of is None else as_of
    periods = divide(*window.bounds(now), grain, zone, now)
    if not periods:
        return []
    question = PeriodsQuestion(user_id, session_type, _boundaries(periods), now)
    return await _on_first_path(
        path,
        is_of_user=user_id is not None,
        ask_user=partial(count_in_user_periods, connection, question, name),
        ask_layer=partial(count_in_periods, connection, question, name, cache or ServingCache()),
        ask_marts=partial(
            count_in_marts, connection, question, name, is_source_only=path == "source"
        ),
    )


async def had_begun(
    connection: Connection, at: datetime, *, user_id: str | None, session_type: str | None
) -> bool:
    """Whether there were sessions before an instant: a window that begins there is a whole one.

    Args:
        connection: any; one statement is run.
        at: the instant.
        user_id, session_type: whose sessions, and which; None for all.
    """
    statement = queries.has_begun(has_user=user_id is not None, has_type=session_type is not None)
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    await cursor.execute(statement, {"at": at, "user_id": user_id, "session_type": session_type})
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


def _boundaries(periods: Sequence[Period]) -> tuple[datetime, ...]:
    return (*(period.starts_at for period in periods), periods[-1].ends_at)


async def _now(connection: Connection) -> datetime:
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    await cursor.execute(queries.CLOCK)
    rows = await cursor.fetchall()
    now: datetime = rows[0][0]
    return now


async def _read_periods(
    connection: Connection,
    question: PeriodsQuestion,
    cache: ServingCache | None,
    path: str | None,
) -> tuple[Sequence[Figures], MetaRow | None]:
    return await _on_first_path(
        path,
        is_of_user=question.user_id is not None,
        ask_user=partial(read_user_periods, connection, question),
        ask_layer=partial(read_periods, connection, question, cache or ServingCache()),
        ask_marts=partial(read_marts, connection, question, is_source_only=path == "source"),
    )


async def _on_first_path(
    path: str | None,
    *,
    is_of_user: bool,
    ask_user: Callable[..., Awaitable[T | None]],
    ask_layer: Callable[[], Awaitable[T | None]],
    ask_marts: Callable[[], Awaitable[T]],
) -> T:
    found: T | None = None
    if is_of_user and path != "serving":
        found = await ask_user(may_be_heavy=path is None)
    if found is None and path in {None, "serving"}:
        found = await ask_layer()
    if found is None and is_of_user:
        found = await ask_user(may_be_heavy=False)
    return await ask_marts() if found is None else found
