"""The figures as JSON: the dictionaries of the library, byte for byte what it returns."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fiml.web.arguments import (
    SERIES_PARAMETERS,
    STATS_PARAMETERS,
    arguments_of,
    in_parameters,
)
from fiml.web.refusals import refusal_of
from fiml.web.service import Service

__all__ = ["api_routes", "json_response"]

Read = Callable[..., Awaitable[dict[str, Any]]]


def api_routes(service: Service) -> list[Route]:
    """The routes below `/api` that answer with figures."""
    analytics = service.reader.analytics
    return [
        _route(service, "/api/stats", analytics.get_session_stats, STATS_PARAMETERS),
        _route(service, "/api/timeseries", analytics.get_session_timeseries, SERIES_PARAMETERS),
    ]


def _route(service: Service, path: str, read: Read, known: Collection[str]) -> Route:
    async def answer(request: Request) -> Response:
        try:
            caller = service.gate.caller(request)
            pairs = request.query_params.multi_items()
            with service.gate.call(caller, path, dict(pairs), known) as call:
                arguments = arguments_of(in_parameters(pairs, known))
                arguments["user_id"] = call.user_id(arguments.get("user_id"))
                await service.reader.open()
                return json_response(await read(**arguments))
        except Exception as error:  # noqa: BLE001 - each has its answer
            refusal = refusal_of(error)
            return json_response(refusal.body(), refusal.status, refusal.headers)

    return Route(path, answer, methods=["GET"])


def json_response(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A response of JSON, with names as they are written."""
    return Response(
        json.dumps(content, ensure_ascii=False),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )
