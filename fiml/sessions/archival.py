"""Ends sessions whose time is up: metrics and archive flag together, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fiml.database import Connection, Database
from fiml.monitoring.spans import prefixed, spanning
from fiml.sessions._arguments import check_whole_number

__all__ = ["ArchivalResult", "archive_expired"]

# A batch is one transaction; at twenty thousand sessions a second the largest takes under a minute.
_BATCH_SECONDS: Final = 60.0
_MAX_BATCH_SIZE: Final = 1_000_000
_ARCHIVE: Final = "select archived, quarantined from analytics.archive_expired_sessions(%s)"


@dataclass(frozen=True, slots=True)
class ArchivalResult:
    """What an archival did.

    Attributes:
        archived: sessions that have ended and have their final metrics.
        quarantined: sessions set aside in `analytics.quarantine`, each with the reason.
    """

    archived: int = 0
    quarantined: int = 0

    def __add__(self, other: ArchivalResult) -> ArchivalResult:
        return ArchivalResult(self.archived + other.archived, self.quarantined + other.quarantined)


async def archive_expired(
    database: Database,
    *,
    batch_size: int | None = None,
    on_progress: Callable[[ArchivalResult], None] | None = None,
) -> ArchivalResult:
    """Archive every session that has expired, and return how many.

    Each batch is one transaction: a crash loses nothing and repeats nothing. As many run at once as
    the settings' `archive_connections` say. Any number of archivers can run beside each other; none
    waits for what another one holds.

    Args:
        database: where the sessions are; open.
        batch_size: most sessions of one transaction, 1 to 1 000 000; default: the settings'.
        on_progress: called after each batch with the totals so far.

    Raises:
        InvalidArgumentError: `batch_size` is no such integer.
        DeadlineExceededError: a batch took longer than a minute (or the settings' deadline, where
            that is longer); the batches before it stay archived.
        DatabaseError: the database did not answer; the batches before stay archived.
    """
    given = database.settings.archive_batch_size if batch_size is None else batch_size
    size = check_whole_number(given, "batch_size", _MAX_BATCH_SIZE)
    seconds = max(_BATCH_SECONDS, database.settings.timeout_seconds)

    async def archive_batch(connection: Connection) -> ArchivalResult:
        async with connection.transaction():
            await connection.execute(
                "select set_config('statement_timeout', %s, true)", [str(int(seconds * 1000))]
            )
            cursor = await connection.execute(_ARCHIVE, [size])
            row = await cursor.fetchone()
        archived, quarantined = row or (0, 0)
        return ArchivalResult(archived, quarantined)

    with spanning("archive") as span:
        total = await _archive_all(database, archive_batch, seconds, on_progress)
        if span is not None:
            found = {"archived": total.archived, "quarantined": total.quarantined}
            span.set_attributes(prefixed(found))
    return total


async def _archive_all(
    database: Database,
    archive_batch: Callable[[Connection], Awaitable[ArchivalResult]],
    seconds: float,
    on_progress: Callable[[ArchivalResult], None] | None,
) -> ArchivalResult:
    total = ArchivalResult()
    is_failed = False

    async def archive_until_none_is_left() -> None:
        nonlocal total, is_failed
        try:
            while not is_failed:
                batch = await database.run(archive_batch, timeout=seconds)
                if batch == ArchivalResult():
                    return
                total += batch
                if on_progress is not None:
                    on_progress(total)
        except BaseException:
            # The others finish what they are at, and begin nothing more.
            is_failed = True
            raise

    connections = min(database.settings.archive_connections, database.settings.pool_size)
    ends = await asyncio.gather(
        *(archive_until_none_is_left() for _ in range(connections)), return_exceptions=True
    )
    for end in ends:
        if end is not None:
            raise end
    return total
