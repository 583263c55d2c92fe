"""Figures as they change, over a WebSocket: parts of the page to its script, JSON to programs.

The client says in its first message what it looks at, so that no address and no log holds it:
`{"query": "days=7", "as_of": "..."}`, with the `as_of` of what it has, if it has anything. Each
message holds the figures at its own `as_of`; one that is not fetched in time is replaced by the
next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fiml.errors import AuthenticationError, InvalidArgumentError
from fiml.web.api import json_response
from fiml.web.filters import PARAMETERS, Filters
from fiml.web.gate import Caller
from fiml.web.hub import Failure, Subscription
from fiml.web.pages import filters_of, parts_of
from fiml.web.refusals import Refusal, refusal_of
from fiml.web.service import Service
from fiml.web.views import View

__all__ = ["live_routes"]

_SECONDS_FOR_THE_FIRST_MESSAGE: Final = 10.0
# Who takes nothing for so long is let go; until then one message waits for them.
_SECONDS_TO_SEND: Final = 15.0
# The database has a clock of its own.
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
# Codes of our own (RFC 6455, 7.4.2): the same last digits as the statuses of HTTP.
_CODES: Final = 4000

Render = Callable[[View, Filters], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Face:
    """Who is at the other end.

    Attributes:
        path: where.
        renderer: makes what writes the messages of one connection.
        has_names: whether the names of each period are among them.
    """

    path: str
    renderer: Callable[[], Render]
    has_names: bool


def live_routes(service: Service, send_seconds: float = _SECONDS_TO_SEND) -> list[WebSocketRoute]:
    """`/live` for the page, `/api/live` for programs."""

    def route(face: _Face) -> WebSocketRoute:
        async def endpoint(websocket: WebSocket) -> None:
            await _serve(websocket, service, face, send_seconds)

        return WebSocketRoute(face.path, endpoint)

    return [
        route(_Face("/live", _Parts, has_names=False)),
        route(_Face("/api/live", lambda: _as_figures, has_names=True)),
    ]


async def _serve(websocket: WebSocket, service: Service, face: _Face, send_seconds: float) -> None:
    try:
        caller = service.gate.caller(websocket)
    except AuthenticationError as error:
        refusal = refusal_of(error)
        await websocket.send_denial_response(
            json_response(refusal.body(), refusal.status, refusal.headers)
        )
        return
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        try:
            # Who has not said yet what it looks at has a place, too.
            with service.gate.staying(caller):
                query, as_of = await _first_message(websocket)
                pairs = parse_qsl(query, keep_blank_values=True)
                filters = filters_of(pairs, websocket)
                with service.gate.call(caller, face.path, dict(pairs), PARAMETERS) as call:
                    subject = filters.about(call.user_id(filters.subject.user_id))
                    if face.has_names:
                        # What the main chart of a page would be of is not among the figures.
                        subject = replace(subject, has_names=True, name=None)
                with service.hub.subscribed(subject, as_of, caller.subject) as subscription:
                    await _keep_sending(
                        websocket,
                        service,
                        caller,
                        filters,
                        subscription,
                        face.renderer(),
                        send_seconds,
                    )
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - each has its answer
            await _close(websocket, refusal_of(error))


async def _first_message(websocket: WebSocket) -> tuple[str, datetime | None]:
    try:
        async with asyncio.timeout(_SECONDS_FOR_THE_FIRST_MESSAGE):
            text = await websocket.receive_text()
    except TimeoutError:
        raise InvalidArgumentError("the first message did not come in time") from None
    except KeyError:
        text = ""
    try:
        message = json.loads(text)
        query, as_of = message.get("query", ""), message.get("as_of")
        moment = None if as_of is None else datetime.fromisoformat(as_of)
        # What nobody can have seen yet would never be followed by anything newer.
        if isinstance(query, str) and (moment is None or _is_past(moment)):
            return query, moment
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    raise InvalidArgumentError(
        'the first message is not as expected: {"query": "days=7", "as_of": null}'
    )


def _is_past(moment: datetime) -> bool:
    return moment.tzinfo is not None and moment <= datetime.now(UTC) + _CLOCKS_DIFFER


async def _keep_sending(
    websocket: WebSocket,
    service: Service,
    caller: Caller,
    filters: Filters,
    subscription: Subscription,
    render: Render,
    send_seconds: float,
) -> None:
    async def send() -> None:
        while True:
            found = await subscription.next()
            # A token that expired, or whose key was withdrawn, ends here.
            if caller.token:
                service.gate.bearer(caller.token)
            if isinstance(found, Failure) and found.refusal is not None:
                raise found.refusal
            message = (
                {"failure": found.message} if isinstance(found, Failure) else render(found, filters)
            )
            async with asyncio.timeout(send_seconds):
                await websocket.send_text(json.dumps(message, ensure_ascii=False))

    async def receive() -> None:
        # Nothing more is expected; this is how the end is noticed.
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))

    tasks = [asyncio.create_task(send()), asyncio.create_task(receive())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        try:
            task.result()
        except TimeoutError:
            raise WebSocketDisconnect(1006) from None


async def _close(websocket: WebSocket, refusal: Refusal) -> None:
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(1):
            # A reason has room for 123 bytes.
            await websocket.close(
                _CODES + refusal.status, refusal.message.encode()[:120].decode(errors="ignore")
            )


def _as_figures(view: View, _filters: Filters) -> dict[str, Any]:
    return {"as_of": view.as_of.isoformat(), "stats": view.stats, "timeseries": view.series}


class _Parts:
    """The parts of one page that are not as they were when they were sent last."""

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}

    def __call__(self, view: View, filters: Filters) -> dict[str, Any]:
        parts = parts_of(view, filters)
        changed = {name: text for name, text in parts.items() if self._sent.get(name) != text}
        self._sent = parts
        return {"as_of": view.as_of.isoformat(), "html": changed}
