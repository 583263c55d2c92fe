"""Whether the process lives, and whether it can answer; for probes, without a token."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from psycopg.rows import tuple_row
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fiml.database import Connection
from fiml.errors import DatabaseError, SchemaVersionError
from fiml.sessions.lazy_reader import LazyReader
from fiml.sessions.migrations import require_current_version

__all__ = ["HEALTH_PATHS", "health_routes"]

HEALTH_PATHS: Final = ("/healthz", "/readyz")
# However often it is asked, by whomever: the database is asked no more often than this.
_SECONDS_KNOWN: Final = 1.0


class _Readiness:
    """The last answer, for as long as it counts."""

    def __init__(self, reader: LazyReader) -> None:
        self._reader = reader
        self._asking = asyncio.Lock()
        self._reason: str | None = None
        self._known_until = 0.0

    async def reason(self) -> str | None:
        """Why it cannot answer; None where it can."""
        async with self._asking:
            if monotonic() >= self._known_until:
                self._reason = await self._ask()
                self._known_until = monotonic() + _SECONDS_KNOWN
            return self._reason

    async def _ask(self) -> str | None:
        try:
            await self._reader.open()
            require_current_version(await self._reader.database.run(_version, is_repeatable=True))
        except SchemaVersionError:
            return "The database is not at the version of this package."
        except DatabaseError:
            return "The database does not answer."
        return None


def health_routes(reader: LazyReader) -> list[Route]:
    """`/healthz`: the process lives. `/readyz`: its database answers, and is at its version."""
    readiness = _Readiness(reader)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        reason = await readiness.reason()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _version(connection: Connection) -> int:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("select max(version) from analytics.migrations")
        row = await cursor.fetchone()
    return int(row[0] or 0) if row is not None else 0
