"""What holds for every request: names, origins, and headers that keep a page to itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

# Everything from here, nothing inline, in nobody's frame.
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # An address may hold a user id. Without any, a form of ours would come from nowhere ("null").
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Turns away what comes under another name, or from another page, and adds the headers."""

    def __init__(
        self, app: ASGIApp, *, hosts: Sequence[str], open_paths: Collection[str], mcp_path: str
    ) -> None:
        """Take what is admitted.

        Args:
            app: what is guarded.
            hosts: what `Host` may be; `:*` stands for any port, or none.
            open_paths: for probes, which ask by address; they tell nothing.
            mcp_path: it has rules of its own for who may post.
        """
        self._app = app
        self._exact = frozenset(hosts)
        self._names = frozenset(host.removesuffix(":*") for host in hosts if host.endswith(":*"))
        self._open_paths = open_paths
        self._mcp_path = mcp_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or let the request through."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["path"] in self._open_paths:
            return None
        if not self._is_known(host):
            return PlainTextResponse("This server has another name.", status_code=421)
        is_writing = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        if is_writing and scope["path"] != self._mcp_path and not _is_same(origin, host):
            # A program that is no browser sends none, and has no cookie that a page could misuse.
            if origin is None and "cookie" not in headers:
                return None
            return PlainTextResponse("This comes from a page of another site.", status_code=403)
        return None

    def _is_known(self, host: str) -> bool:
        if host in self._exact or host in self._names:
            return True
        name, separator, port = host.rpartition(":")
        is_port = port.isascii() and port.isdigit()
        return bool(separator) and is_port and name in self._names


def _is_same(origin: str | None, host: str) -> bool:
    if origin is None:
        return False
    scheme, separator, netloc = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and netloc == host
