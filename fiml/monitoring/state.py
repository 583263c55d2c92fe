"""What the database says of itself, asked by a thread of its own.

Not through the pool that answers calls: how things are is asked most when that is exhausted. One
connection, one statement, a deadline, and however many ask: at most one question a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock, Thread
from time import monotonic
from typing import Final

from psycopg.rows import tuple_row

from fiml.database import Connection, Database
from fiml.errors import SessionAnalyticsError
from fiml.settings import Settings

__all__ = ["COUNTED_AT_MOST", "DatabaseWatch", "State"]

COUNTED_AT_MOST: Final = 100_000
_QUESTION: Final = "select figure, label, value from analytics.monitored(%s)"
_SECONDS_KNOWN: Final = 1.0
# Twice that, where it has to connect first, is less than a scraper waits.
_SECONDS_TO_ANSWER: Final = 2.0
_SECONDS_TO_END: Final = 1.0


@dataclass(frozen=True, slots=True)
class State:
    """How things were a moment ago.

    Attributes:
        figures: by the name of the figure and its label, as `analytics.monitored` has them.
        lags: seconds, by mart.
    """

    figures: Mapping[tuple[str, str], float]
    lags: Mapping[str, float]


class DatabaseWatch:
    """Asks the database how far everything is; for any number of threads."""

    def __init__(self, settings: Settings) -> None:
        """Take where the database is; nothing is connected before somebody asks."""
        seconds = min(settings.timeout_seconds, _SECONDS_TO_ANSWER)
        self.database = Database(replace(settings, pool_size=1, timeout_seconds=seconds))
        self._asking = Lock()
        self._state: State | None = None
        self._known_until = 0.0
        # When a mart was last found to have folded everything.
        self._even_at: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="database-watch", daemon=True)
        self._thread.start()

    def state(self) -> State | None:
        """How things are; None where the database did not say."""
        with self._asking:
            if monotonic() >= self._known_until:
                self._state = asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result()
                self._known_until = monotonic() + _SECONDS_KNOWN
            return self._state

    def close(self) -> None:
        """Close the connection; what is under way has a second."""
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        try:
            closing.result(_SECONDS_TO_END)
        except TimeoutError:
            # A server that does not answer: the thread ends with the process.
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS_TO_END)
        if not self._thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        await self.database.close()

    async def _ask(self) -> State | None:
        began = monotonic()
        try:
            await self.database.open()
            figures = await self.database.run(_figures, is_repeatable=True)
        except SessionAnalyticsError:
            return None
        return State(figures, self._lags(figures, began))

    def _lags(self, figures: Mapping[tuple[str, str], float], now: float) -> dict[str, float]:
        lags = {}
        for (figure, mart), rows in figures.items():
            if figure != "unfolded_rows":
                continue
            if not rows:
                self._even_at[mart] = now
            # Nothing that it has not folded is older than its snapshot.
            since_snapshot = figures.get(("window_age", mart), float("inf"))
            since_even = now - self._even_at.get(mart, -float("inf"))
            lags[mart] = min(since_snapshot, since_even) if rows else 0.0
        return lags


async def _figures(connection: Connection) -> dict[tuple[str, str], float]:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_QUESTION, [COUNTED_AT_MOST])
        return {(figure, label): value for figure, label, value in await cursor.fetchall()}
