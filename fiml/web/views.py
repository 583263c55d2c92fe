"""Reads all that one view of the page shows, in one snapshot and at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import errors
from psycopg.rows import class_row, tuple_row

from fiml.alerts import Episode, recent_episodes
from fiml.database import Connection
from fiml.sessions.periods import Grain, Window
from fiml.sessions.reading import (
    had_begun,
    read_name_counts,
    read_series,
    read_stats,
    read_window_stats,
)
from fiml.sessions.serving import ServingCache
from fiml.web.filters import Subject, suitable_grain

__all__ = ["MartState", "View", "read_view"]

_ONE_SNAPSHOT: Final = "set transaction isolation level repeatable read, read only"
_CLOCK: Final = "select transaction_timestamp()"
_UNSEEN_AT_MOST: Final = 10_000
_ALERTS: Final = 5
_MARTS: Final = """
select
    mart_states.mart,
    mart_states.folded_at,
    mart_states.watermark is not null as is_usable,
    mart_states.is_rebuild_requested
from analytics.mart_states
order by mart_states.mart
"""
# Of the layer that answers. The order makes it a look at the index, however many rows were folded.
_UNSEEN: Final = """
with layer as materialized (
    select mart_states.watermark
    from analytics.mart_states
    where mart_states.mart = 'session_totals'
)

select count(*)
from layer
cross join lateral (
    select
    from analytics.session_changes
    where analytics.is_unseen(session_changes.xid, layer.watermark)
    order by session_changes.xid
    limit %s
) as unseen
"""
# The serving layer is not there, or not for this role.
_NO_LAYER: Final = (
    errors.UndefinedFunction,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.InsufficientPrivilege,
)


@dataclass(frozen=True, slots=True)
class MartState:
    """How far one mart is.

    Attributes:
        mart: its name.
        folded_at: when it was last folded; None for never.
        is_usable: whether it was built for this database.
        is_rebuild_requested: whether the next build is from scratch.
    """

    mart: str
    folded_at: datetime | None
    is_usable: bool
    is_rebuild_requested: bool


@dataclass(frozen=True, slots=True)
class View:
    """The answers that a view is made of; each is a documented dictionary.

    The series have names where the subject has, and the one before has none.

    Attributes:
        subject: what was asked.
        as_of: the instant of all of them.
        since, until: the window.
        grain: of the periods.
        stats: of the window.
        before: of the window of the same length that ends where this one begins.
        series: of the window.
        series_before: of the window before.
        marts: how far each is.
        unseen: changes that are not folded yet, `_UNSEEN_AT_MOST` at most.
        alerts: the latest episodes, of everybody's view alone: rules are about everybody.
        counts: how often the subject's name counts in each period of the series; None for no name.
        counts_before: the same of the window before.
        is_comparable: whether the window before is a whole one: there were sessions before it.
        written: what was made of it for one page, for all others that show the same.
    """

    subject: Subject
    as_of: datetime
    since: datetime
    until: datetime
    grain: Grain
    stats: dict[str, Any]
    before: dict[str, Any]
    series: dict[str, Any]
    series_before: dict[str, Any]
    marts: list[MartState]
    unseen: int
    alerts: list[Episode] = field(default_factory=list)
    counts: list[int] | None = None
    counts_before: list[int] | None = None
    is_comparable: bool = True
    written: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)


async def read_view(connection: Connection, subject: Subject, cache: ServingCache) -> View:
    """Read a view.

    Args:
        connection: in autocommit; it is in no transaction before and after.
        subject: what of.
        cache: what was read of the serving layer before.

    Raises:
        InvalidArgumentError: the window is longer than 3650 days, or has too many periods.
    """
    try:
        return await _read_view(connection, subject, cache, None)
    except _NO_LAYER:
        # A transaction ends with an error: to go on from elsewhere takes another one.
        return await _read_view(connection, subject, cache, "marts")


async def _read_view(
    connection: Connection, subject: Subject, cache: ServingCache, path: str | None
) -> View:
    async with connection.transaction():
        await connection.execute(_ONE_SNAPSHOT)
        as_of: datetime = await _value(connection, _CLOCK)
        since, until = subject.window.bounds(as_of)
        grain = subject.grain or suitable_grain(until - since)
        earlier = Window(None, since - (until - since), since)
        of_whom: dict[str, Any] = {
            "user_id": subject.user_id,
            "session_type": subject.session_type,
            "as_of": as_of,
            "cache": cache,
            "path": path,
        }
        of_periods: dict[str, Any] = {**of_whom, "grain": grain, "zone": subject.zone}
        if subject.days is not None:
            stats = await read_stats(connection, days=subject.days, **of_whom)
        else:
            stats = await read_window_stats(connection, window=subject.window, **of_whom)
        return View(
            subject=subject,
            as_of=as_of,
            since=since,
            until=until,
            grain=grain,
            stats=stats,
            before=await read_window_stats(connection, window=earlier, **of_whom),
            series=await read_series(
                connection, window=subject.window, has_names=subject.has_names, **of_periods
            ),
            series_before=await read_series(
                connection, window=earlier, has_names=False, **of_periods
            ),
            marts=await _mart_states(connection),
            unseen=await _value(connection, _UNSEEN, [_UNSEEN_AT_MOST]),
            alerts=[] if subject.user_id else await recent_episodes(connection, _ALERTS),
            counts=await _counts(connection, subject, subject.window, of_periods),
            counts_before=await _counts(connection, subject, earlier, of_periods),
            is_comparable=earlier.since is not None
            and await had_begun(
                connection,
                earlier.since,
                user_id=subject.user_id,
                session_type=subject.session_type,
            ),
        )


async def _counts(
    connection: Connection, subject: Subject, window: Window, of_periods: dict[str, Any]
) -> list[int] | None:
    if subject.name is None:
        return None
    return await read_name_counts(connection, name=subject.name, window=window, **of_periods)


async def _mart_states(connection: Connection) -> list[MartState]:
    async with connection.cursor(row_factory=class_row(MartState)) as cursor:
        await cursor.execute(_MARTS)
        return await cursor.fetchall()


async def _value(
    connection: Connection, statement: LiteralString, parameters: list[int] | None = None
) -> Any:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, parameters)
        row = await cursor.fetchone()
    return row[0] if row is not None else None
