"""What is exported, read in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from psycopg.rows import scalar_row, tuple_row

from fiml.database import Connection
from fiml.exports.report import Report
from fiml.sessions import queries
from fiml.sessions.periods import Grain, Window
from fiml.sessions.reading import had_begun, read_series, read_stats, read_window_stats
from fiml.sessions.serving import ServingCache

__all__ = [
    "Rows",
    "Subject",
    "fitting_grain",
    "read_figures",
    "read_periods",
    "read_report",
    "stream_report",
    "stream_rows",
]

Rows: TypeAlias = Sequence[tuple[str | None, ...]]

# What is read ahead and held at a time; a session is some hundred bytes.
_BATCH: Final = 1_000
_FETCH: Final = f"fetch forward {_BATCH} from session_metrics"
# A chart of so many hours, days or weeks can be read.
_LONGEST: Final = {
    Grain.HOUR: timedelta(days=3),
    Grain.DAY: timedelta(days=62),
    Grain.WEEK: timedelta(weeks=62),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Of whom and of when; arguments that were checked.

    Attributes:
        days: the length, where it is a window of days that ends now.
        window: the same, or any other window.
    """

    user_id: str | None
    session_type: str | None
    days: int | None
    window: Window
    zone: ZoneInfo

    @property
    def filters(self) -> dict[str, Any]:
        """By user and type, as the reading functions take them."""
        return {"user_id": self.user_id, "session_type": self.session_type}

    @property
    def asked(self) -> dict[str, str | float | None]:
        """What is asked, without whom it is about; as spans tell it."""
        return {"session_type": self.session_type, "days": self.window.days}


def fitting_grain(length: timedelta) -> Grain:
    """How long the periods of such a window are, for people to look at."""
    return next((grain for grain, longest in _LONGEST.items() if length <= longest), Grain.MONTH)


async def read_figures(
    connection: Connection, subject: Subject, cache: ServingCache | None = None
) -> dict[str, Any]:
    """The documented dictionary."""
    if subject.days is not None:
        return await read_stats(connection, days=subject.days, cache=cache, **subject.filters)
    return await read_window_stats(
        connection, window=subject.window, cache=cache, **subject.filters
    )


async def read_periods(
    connection: Connection,
    subject: Subject,
    grain: Grain,
    cache: ServingCache | None = None,
    *,
    has_names: bool = True,
) -> dict[str, Any]:
    """The documented time series, or its single figures."""
    return await read_series(
        connection,
        window=subject.window,
        grain=grain,
        zone=subject.zone,
        cache=cache,
        has_names=has_names,
        **subject.filters,
    )


async def read_report(
    connection: Connection,
    subject: Subject,
    grain: Grain | None = None,
    cache: ServingCache | None = None,
) -> Report:
    """Read the figures, the periods and the window before, all as of one instant.

    Args:
        connection: in autocommit.
        subject: of whom and of when.
        grain: how long a period is; None fits it to the window.
        cache: what was read of the serving layer before.
    """
    async with connection.transaction():
        await connection.execute(queries.SNAPSHOT)
        return await _read_report(connection, subject, grain, cache)


async def stream_rows(connection: Connection, subject: Subject) -> AsyncGenerator[Rows, None]:
    """The rows of a window in the order of creation; their columns are queries.SESSION_COLUMNS."""
    async with connection.transaction():
        await connection.execute(queries.SNAPSHOT)
        async with aclosing(_rows(connection, subject)) as batches:
            async for rows in batches:
                yield rows


async def stream_report(
    connection: Connection,
    subject: Subject,
    grain: Grain | None = None,
    cache: ServingCache | None = None,
) -> AsyncGenerator[Report | Rows, None]:
    """The report, and then the rows that it speaks of, in the same snapshot."""
    async with connection.transaction():
        await connection.execute(queries.SNAPSHOT)
        yield await _read_report(connection, subject, grain, cache)
        async with aclosing(_rows(connection, subject)) as batches:
            async for rows in batches:
                yield rows


async def _read_report(
    connection: Connection, subject: Subject, grain: Grain | None, cache: ServingCache | None
) -> Report:
    since, until = subject.window.bounds(await _now(connection))
    of_grain = fitting_grain(until - since) if grain is None else grain
    figures = await read_figures(connection, subject, cache)
    series = await read_periods(connection, subject, of_grain, cache, has_names=False)
    earlier = since - (until - since)
    window = Window(None, earlier, since)
    before = await read_window_stats(
        connection, window=window, include_meta=True, cache=cache, **subject.filters
    )
    horizon = before.pop("meta")["horizon"]
    is_kept = horizon is None or datetime.fromisoformat(horizon) <= earlier
    is_whole = is_kept and await had_begun(connection, earlier, **subject.filters)
    if since == until or not is_whole:
        return Report(figures, series)
    then = replace(subject, days=None, window=window)
    series_before = await read_periods(connection, then, of_grain, cache, has_names=False)
    return Report(figures, series, before, series_before)


async def _rows(connection: Connection, subject: Subject) -> AsyncGenerator[Rows, None]:
    since, until = subject.window.bounds(await _now(connection))
    statement = queries.session_metrics_rows(
        has_user=subject.user_id is not None, has_type=subject.session_type is not None
    )
    await connection.execute(queries.LONG_PAUSES)
    # On the server, which hands over a batch at a time, and closes it with the transaction: one of
    # the driver's has to be closed by who may be cancelled while he does.
    await connection.execute(
        f"declare session_metrics no scroll cursor for {statement}".encode(),
        {**subject.filters, "since": since, "until": until},
        prepare=False,
    )
    async with connection.cursor(row_factory=tuple_row) as cursor:
        while rows := await (await cursor.execute(_FETCH)).fetchall():
            yield rows


async def _now(connection: Connection) -> datetime:
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(queries.CLOCK)
        now: datetime = (await cursor.fetchall())[0]
    return now
