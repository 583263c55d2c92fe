"""The MCP server over streamable HTTP, for callers who prove who they are."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import anyio
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route

from fiml.errors import InvalidArgumentError, SettingsError
from fiml.identity.access import Access
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.mcp._bearer import BearerVerifier
from fiml.mcp._envelope import well_formed
from fiml.mcp._logging import audit_to_stderr, log_to_stderr
from fiml.mcp.server import build_server
from fiml.sessions._arguments import shown
from fiml.settings import Settings

__all__ = ["HTTP_PATH", "build_http_app", "network_access", "serve_http"]

HTTP_PATH: Final = "/mcp"

# Clients compare an issuer character by character: no slash may come at its end (RFC 8414, 3.3).
_URL: Final = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_EVERY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - no name that a client may use
_SECONDS_TO_STOP: Final = 2


def network_access(settings: Settings, host: str, *, insecure_local: bool = False) -> Access | None:
    """Return what binds callers to their identity; None where that is asked for, and safe.

    Raises:
        SettingsError: no keys of tokens are named, or those cannot be used, or `insecure_local` is
            asked for all the same.
        InvalidArgumentError: `insecure_local`, and `host` is no loopback name.
    """
    access = Access.from_settings(settings)
    if not insecure_local:
        if access is None:
            raise SettingsError(
                "over HTTP callers must prove who they are: set SESSION_ANALYTICS_AUTH_JWKS_FILE "
                "or SESSION_ANALYTICS_AUTH_SECRET_FILE, and SESSION_ANALYTICS_AUTH_AUDIENCE; or "
                "let everybody on this machine ask for everything with --insecure-local"
            )
        return access
    if access is not None:
        raise SettingsError(
            "keys of tokens are set, and --insecure-local would ignore them; drop one of the two"
        )
    if host not in _LOOPBACK:
        raise InvalidArgumentError(
            f"host is {host!r}; expected {', '.join(_LOOPBACK)}: with --insecure-local nobody is "
            "asked who they are, so only this machine may connect"
        )
    return None


def build_http_app(settings: Settings, access: Access | None, host: str = "127.0.0.1") -> Starlette:
    """Make the application: one path that takes POST, and the metadata of RFC 9728.

    There are no sessions. What a client is told to keep (an id that stands for it) could be stolen,
    and what the server keeps for it could be filled up; the tool needs neither.

    Args:
        settings: the database, and the names under which clients reach the server.
        access: None admits everybody.
        host: what the server listens on.
    """
    server = build_server(settings, access)
    # For its session manager, which nothing else makes; its routes take GET and DELETE too.
    server.streamable_http_app(
        stateless_http=True,
        transport_security=_transport_security(settings, host),
    )
    endpoint = well_formed(StreamableHTTPASGIApp(server.session_manager))
    routes: list[Route] = []
    middleware: list[Middleware] = []
    if access is not None:
        metadata_url: AnyHttpUrl | None = None
        if (resource := _url(settings.auth_audience)) and (issuer := _url(settings.auth_issuer)):
            metadata_url = build_resource_metadata_url(resource)
            routes = create_protected_resource_routes(
                resource, [issuer], [PLATFORM_SCOPE, USERS_SCOPE], "Session analytics"
            )
        backend = BearerAuthBackend(BearerVerifier(access))
        middleware = [Middleware(AuthenticationMiddleware, backend=backend)]
        endpoint = RequireAuthMiddleware(endpoint, [], metadata_url)
    return Starlette(
        # A GET would open a stream that nothing ever comes over.
        routes=[Route(HTTP_PATH, endpoint, methods=["POST"]), *routes],
        middleware=middleware,
        lifespan=lambda _app: server.session_manager.run(),
    )


def serve_http(
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    settings: Settings | None = None,
    insecure_local: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve streamable HTTP until interrupted.

    Tokens cross the network as they are: from another machine, let clients come through a proxy
    that speaks TLS.

    Args:
        host: an address of this machine.
        port: 0 takes a free one.
        settings: read from the environment unless given.
        insecure_local: ask nobody who they are, and let only this machine connect.
        on_ready: called with the URL once connections are accepted.

    Raises:
        SettingsError: an environment variable does not parse, or the keys of tokens are not there.
        InvalidArgumentError: `insecure_local`, and `host` is no loopback name.
        OSError: the port cannot be had.
    """
    import uvicorn

    known_settings = settings if settings is not None else Settings.from_environment()
    access = network_access(known_settings, host, insecure_local=insecure_local)
    log_to_stderr()
    audit_to_stderr()
    app = build_http_app(known_settings, access, host)
    with _listener(host, port) as listener:
        if on_ready is not None:
            on_ready(f"http://{_shown(host)}:{listener.getsockname()[1]}{HTTP_PATH}")
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            # It would show what somebody put into a query string.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_STOP,
        )
        anyio.run(lambda: uvicorn.Server(config).serve(sockets=[listener]))


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    # Its connections inherit it. Without it the end of an answer waits for the client to
    # acknowledge the beginning, which takes 40 ms; asyncio sets it on sockets of its own only.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _transport_security(settings: Settings, host: str) -> TransportSecuritySettings:
    # Against DNS rebinding: a page that a browser loaded under another name cannot come here.
    names = {_shown(name) for name in (*_LOOPBACK, host) if name not in _EVERY_ADDRESS}
    hosts = [f"{name}:*" for name in sorted(names)]
    origins = [f"http://{name}:*" for name in sorted(names)]
    if _url(settings.auth_audience):
        public = urlsplit(settings.auth_audience)
        hosts += [public.netloc, f"{public.hostname}:*"]
        origins.append(f"{public.scheme}://{public.netloc}")
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


def _url(text: str) -> AnyHttpUrl | None:
    if not text.startswith(("http://", "https://")):
        return None
    try:
        return _URL.validate_python(text)
    except ValidationError:
        raise SettingsError(f"{shown(text)} is no URL, though it begins like one") from None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
