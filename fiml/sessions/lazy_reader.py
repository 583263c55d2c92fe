"""The reader of a server, which may start before its database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from fiml.database import Database
from fiml.errors import DatabaseError, DeadlineExceededError, SessionAnalyticsError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

__all__ = ["LazyReader"]

_logger = logging.getLogger(__name__)


class LazyReader:
    """Connects with the first call that needs it, and again until that succeeds."""

    def __init__(self, settings: Settings) -> None:
        """Take where the database is; nothing is connected yet."""
        self._store = SessionStore(settings)
        self.analytics = SessionAnalytics(self._store)
        self._timeout_seconds = settings.timeout_seconds

    @property
    def database(self) -> Database:
        """What the reader reads through, once it is open."""
        return self._store._session_maker  # noqa: SLF001 - the documented way to the connections

    async def open(self) -> None:
        """Connect, unless that is done.

        Raises:
            DatabaseError: it cannot be; see its subclasses.
        """
        try:
            # Callers queue for the one attempt to connect, and each has a deadline of its own.
            async with asyncio.timeout(self._timeout_seconds):
                await self._store.initialize()
        except TimeoutError as error:
            if isinstance(error, SessionAnalyticsError):
                raise
            raise DeadlineExceededError(
                f"no connection to the database within {self._timeout_seconds:g} s"
            ) from None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Connect if the database is there, let the log say so if not, and close at the end."""
        try:
            try:
                await self.open()
            except DatabaseError as error:
                _logger.warning("started without the database: %s", error)
            yield self
        finally:
            await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._store.shutdown()
