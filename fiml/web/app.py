"""The application: every route, behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fiml.identity.access import Access
from fiml.mcp.http import HTTP_PATH, build_endpoint
from fiml.monitoring.requests import TracedRequests
from fiml.network.health import HEALTH_PATHS, health_routes
from fiml.network.names import known_hosts
from fiml.sessions.lazy_reader import LazyReader
from fiml.settings import Settings
from fiml.web.api import api_routes, json_response
from fiml.web.changes import ChangeWatch
from fiml.web.gate import Gate
from fiml.web.guard import Guard
from fiml.web.hub import Hub
from fiml.web.live import live_routes
from fiml.web.openapi import openapi
from fiml.web.pages import page_routes
from fiml.web.refusals import STATUSES, Refusal
from fiml.web.service import Service, Views

__all__ = ["build_app"]

_SMALLEST_TO_COMPRESS = 1_000


def build_app(settings: Settings, access: Access | None, host: str = "127.0.0.1") -> Starlette:
    """Make the application; nothing is connected before it runs.

    Where the database is down or not migrated, it runs all the same, says so, and answers as soon
    as the database does.

    Args:
        settings: the database, with a login that may read; the names under which clients come.
        access: binds callers to their identity; None admits everybody.
        host: what the server listens on.

    Raises:
        SettingsError: a setting that looks like a URL is none.
    """
    reader = LazyReader(settings)
    views = Views(reader)
    hub = Hub(views.read, lambda on_change: ChangeWatch(settings, on_change))
    service = Service(reader, views, Gate(access), hub)
    mcp = build_endpoint(settings, access, host, reader)
    document = openapi(is_open=access is None)

    async def describe(_request: Request) -> Response:
        return json_response(document)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with reader.running(), mcp.running():
            watching = asyncio.create_task(hub.run())
            try:
                yield
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    return Starlette(
        routes=[
            *page_routes(service),
            Route("/api/openapi.json", describe),
            *api_routes(service),
            *live_routes(service),
            *health_routes(reader),
            *mcp.routes,
        ],
        middleware=[
            Middleware(TracedRequests),
            Middleware(
                Guard,
                hosts=known_hosts(settings, host),
                open_paths=HEALTH_PATHS,
                mcp_path=HTTP_PATH,
            ),
            Middleware(GZipMiddleware, minimum_size=_SMALLEST_TO_COMPRESS, compresslevel=6),
        ],
        exception_handlers={404: _nothing_here, 405: _nothing_here},
        lifespan=lifespan,
    )


async def _nothing_here(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    message = f"{STATUSES[status][1]} See /api."
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if request.url.path.startswith("/api/"):
        return json_response(Refusal(status, message).body(), status, headers)
    return PlainTextResponse(STATUSES[status][1], status, headers)
