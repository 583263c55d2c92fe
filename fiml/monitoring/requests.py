"""A span for each HTTP request, the child of the caller's (W3C Trace Context).

Libraries have this too. They also record the query, the path as it came and the text of errors,
which may hold a user id; here are the method, the route and the status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fiml.monitoring.spans import fail, tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TracedRequests"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class TracedRequests:
    """Around an application whose router leaves the route in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on; inside a span, where somebody traces.

        A live connection has none: it lasts for hours. Each view that it is sent has its own.
        """
        own = tracer()
        if own is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        with own.start_as_current_span(
            method,
            context=extract(_carrier(scope)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope.get("scheme", "http")},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, noting)
            except BaseException as error:
                fail(span, error)
                raise
            finally:
                _name(span, method, scope)


def _carrier(scope: Scope) -> dict[str, str]:
    # Without `tracestate` and `baggage`: what is in them is a text of the caller's, and a span or
    # what is sent further would repeat it.
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return {"traceparent": found[0].decode("latin-1")} if found else {}


def _name(span: Span, method: str, scope: Scope) -> None:
    route: Any = scope.get("route")
    path = getattr(route, "path", None)
    # Of a route, of which there are few; a path may be whatever somebody asked for.
    if isinstance(path, str):
        span.set_attribute("http.route", path)
        span.update_name(f"{method} {path}")
