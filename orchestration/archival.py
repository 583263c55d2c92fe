"""Sessions whose time is up: archived before anything reads them."""

import asyncio
from collections.abc import Callable

import dagster as dg

from fiml.database import Database
from fiml.errors import DatabaseUnavailableError, DeadlineExceededError
from fiml.monitoring.otlp import sending_spans
from fiml.sessions.archival import ArchivalResult, archive_expired
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["ARCHIVED_SESSIONS", "archived_sessions"]

# The application's tables and the change feed after an archival; every dbt source stands for it.
ARCHIVED_SESSIONS = dg.AssetKey("archived_sessions")

_RETRIES = 3
_RETRY_SECONDS = 10


@dg.asset(
    key=ARCHIVED_SESSIONS,
    group_name="sessions",
    kinds={"postgres"},
    description=(
        "The source tables with every expired session archived: its metrics recorded and the "
        "session marked, in one transaction for each batch."
    ),
)
def archived_sessions(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Archive expired sessions; nothing is read from the source before."""

    def report(total: ArchivalResult) -> None:
        context.log.info("archived %d, set aside %d so far", total.archived, total.quarantined)

    settings = Settings.from_environment().connecting_as(Purpose.APP)
    try:
        with sending_spans(settings):
            result = asyncio.run(_archive(settings, report))
    except (DatabaseUnavailableError, DeadlineExceededError) as error:
        # What was archived stays archived: trying again goes on from there.
        raise dg.RetryRequested(_RETRIES, _RETRY_SECONDS) from error
    if result.quarantined:
        context.log.warning(
            "%d sessions cannot be archived: see analytics.quarantine", result.quarantined
        )
    return dg.MaterializeResult(
        metadata={"archived": result.archived, "quarantined": result.quarantined}
    )


async def _archive(
    settings: Settings, on_progress: Callable[[ArchivalResult], None]
) -> ArchivalResult:
    async with Database(settings) as database:
        return await archive_expired(database, on_progress=on_progress)
