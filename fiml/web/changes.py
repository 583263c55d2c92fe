"""Notices that a figure may have changed: one connection, however many pages are open.

A notification says when to look, and never what is there: whoever folds sends one when it finds new
rows, and a transaction that is not folded yet, or a server that nobody folds for, sends none. So it
looks every second too. A look is one question of an index (which feed rows became visible since the
last look's snapshot?) and misses no row, whenever its transaction began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fiml.database import typed_error
from fiml.settings import Settings
from fiml.warehouse.notices import CHANNEL

__all__ = ["ChangeWatch"]

# Pages are redrawn no more often than this, however much is written.
_LEAST_SECONDS: Final = 0.4
_LONGEST_PAUSE_SECONDS: Final = 8.0
_KEEPALIVES: Final = {
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
# Rows that are visible now and were not in the snapshot before; the second condition is the one
# that the index can use. clock_timestamp(), because that is after the snapshot was taken.
_LOOK: Final = """
select
    pg_current_snapshot()::text,
    clock_timestamp(),
    exists (
        select
        from analytics.session_changes
        where
            analytics.is_unseen(session_changes.xid, %(snapshot)s::pg_snapshot)
            and (
                session_changes.xid >= pg_snapshot_xmax(%(snapshot)s::pg_snapshot)
                or session_changes.xid
                = any(array(select pg_snapshot_xip(%(snapshot)s::pg_snapshot)))
            )
    )
"""
_BASELINE: Final = "select pg_current_snapshot()::text, clock_timestamp()"

_logger = logging.getLogger(__name__)


class ChangeWatch:
    """Looks for changes while somebody wants to know."""

    def __init__(
        self, settings: Settings, on_change: Callable[[], None], *, every_seconds: float = 1.0
    ) -> None:
        """Take what to do about a change.

        Args:
            settings: the database, with a login that may read.
            on_change: called after each look that found something, and after each time of not
                looking.
            every_seconds: from one look to the next without a notification.
        """
        self._conninfo = make_conninfo(
            settings.conninfo,
            **_KEEPALIVES,
            application_name="session-analytics-live",
            connect_timeout=max(2, int(settings.timeout_seconds)),
        )
        self._timeout_ms = int(settings.timeout_seconds * 1000)
        self._on_change = on_change
        self._every_seconds = every_seconds
        self._wanted = asyncio.Event()
        self._is_in_trouble = False
        self._watching_since: datetime | None = None
        self._changed_at: datetime | None = None

    def want(self, *, wanted: bool) -> None:
        """Say whether anybody wants to know."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def has_changed_since(self, as_of: datetime) -> bool:
        """Whether an answer of that instant may be another one now; yes, where nobody looked."""
        if self._watching_since is None or self._watching_since > as_of:
            return True
        return self._changed_at is not None and self._changed_at > as_of

    async def run(self) -> None:
        """Watch until cancelled; what goes wrong is told to the log once, and tried again."""
        pause = self._every_seconds
        while True:
            await self._wanted.wait()
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True
                ) as connection:
                    await self._prepare(connection)
                    pause = self._every_seconds
                    await self._watch(connection)
            except psycopg.Error as error:
                if not self._is_in_trouble:
                    _logger.warning("live updates pause: %s; it is tried again", typed_error(error))
                self._is_in_trouble = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            finally:
                self._watching_since = None

    async def _prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(
            "select set_config('jit', 'off', false), set_config('statement_timeout', %s, false), "
            "set_config('idle_session_timeout', '0', false)",
            [str(self._timeout_ms)],
        )
        # A standby does not listen. Looking is enough.
        with suppress(
            psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.ReadOnlySqlTransaction
        ):
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))

    async def _watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        cursor = await connection.execute(_BASELINE)
        row = await cursor.fetchone()
        if row is None:
            return
        snapshot, self._watching_since = row
        if self._is_in_trouble:
            _logger.warning("live updates go on")
            self._is_in_trouble = False
        # Whatever was before is not known.
        self._on_change()
        while self._wanted.is_set():
            looked_at = monotonic()
            await self._rest(connection, looked_at)
            cursor = await connection.execute(_LOOK, {"snapshot": snapshot})
            row = await cursor.fetchone()
            if row is None:
                return
            snapshot, looked, has_changed = row
            if has_changed:
                self._changed_at = looked
                self._on_change()

    async def _rest(self, connection: psycopg.AsyncConnection[Any], since: float) -> None:
        """Until a notification comes, or the time is up."""
        async for _ in connection.notifies(timeout=self._every_seconds, stop_after=1):
            pass
        # Notifications may come in numbers.
        await asyncio.sleep(
            max(0.0, min(_LEAST_SECONDS, self._every_seconds) - (monotonic() - since))
        )
