"""The MCP server over streamable HTTP, for callers who prove who they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route

from fiml.errors import InvalidArgumentError, SettingsError
from fiml.identity.access import Access
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.mcp._bearer import BearerVerifier
from fiml.mcp._envelope import well_formed
from fiml.mcp.server import build_server
from fiml.monitoring.logs import audit_to_stderr, log_to_stderr
from fiml.monitoring.requests import TracedRequests
from fiml.network.health import health_routes
from fiml.network.listening import serve_app
from fiml.network.names import LOOPBACK, http_url, known_hosts, known_origins
from fiml.sessions.lazy_reader import LazyReader
from fiml.settings import Settings

__all__ = [
    "HTTP_PATH",
    "Endpoint",
    "build_endpoint",
    "build_http_app",
    "network_access",
    "serve_http",
]

HTTP_PATH: Final = "/mcp"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """MCP as a part of an application.

    Attributes:
        routes: one path that takes POST, and the metadata of RFC 9728.
        running: what has to be entered while the application runs.
    """

    routes: list[Route]
    running: Callable[[], AbstractAsyncContextManager[None]]


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
    if host not in LOOPBACK:
        raise InvalidArgumentError(
            f"host is {host!r}; expected {', '.join(LOOPBACK)}: with --insecure-local nobody is "
            "asked who they are, so only this machine may connect"
        )
    return None


def build_endpoint(
    settings: Settings,
    access: Access | None,
    host: str = "127.0.0.1",
    reader: LazyReader | None = None,
) -> Endpoint:
    """Make what an application routes to.

    There are no sessions. What a client is told to keep (an id that stands for it) could be stolen,
    and what the server keeps for it could be filled up; the tool needs neither.

    Args:
        settings: the database, and the names under which clients reach the server.
        access: None admits everybody.
        host: what the server listens on.
        reader: what the application's other faces read through; None for one of its own.
    """
    server = build_server(settings, access, reader)
    # For its session manager, which nothing else makes; its routes take GET and DELETE too.
    server.streamable_http_app(
        stateless_http=True,
        transport_security=TransportSecuritySettings(
            allowed_hosts=known_hosts(settings, host), allowed_origins=known_origins(settings, host)
        ),
    )
    endpoint = well_formed(StreamableHTTPASGIApp(server.session_manager))
    metadata: list[Route] = []
    if access is not None:
        metadata_url: AnyHttpUrl | None = None
        audience, issued_by = http_url(settings.auth_audience), http_url(settings.auth_issuer)
        if audience and issued_by:
            metadata_url = build_resource_metadata_url(audience)
            metadata = create_protected_resource_routes(
                audience, [issued_by], [PLATFORM_SCOPE, USERS_SCOPE], "Session analytics"
            )
        endpoint = AuthenticationMiddleware(
            RequireAuthMiddleware(endpoint, [], metadata_url),
            backend=BearerAuthBackend(BearerVerifier(access)),
        )
    # A GET would open a stream that nothing ever comes over.
    routes = [Route(HTTP_PATH, endpoint, methods=["POST"]), *metadata]
    return Endpoint(routes, server.session_manager.run)


def build_http_app(settings: Settings, access: Access | None, host: str = "127.0.0.1") -> Starlette:
    """Make the application of `build_endpoint` alone, with `/healthz` and `/readyz`."""
    reader = LazyReader(settings)
    endpoint = build_endpoint(settings, access, host, reader)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with reader.running(), endpoint.running():
            yield

    return Starlette(
        routes=[*endpoint.routes, *health_routes(reader)],
        middleware=[Middleware(TracedRequests)],
        lifespan=lifespan,
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
    known_settings = settings if settings is not None else Settings.from_environment()
    access = network_access(known_settings, host, insecure_local=insecure_local)
    log_to_stderr(known_settings.log_format)
    audit_to_stderr()
    app = build_http_app(known_settings, access, host)

    def tell(origin: str) -> None:
        if on_ready is not None:
            on_ready(origin + HTTP_PATH)

    serve_app(app, host, port, on_ready=tell)
