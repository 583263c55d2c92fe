"""The web face as a process."""

from __future__ import annotations

from collections.abc import Callable

# Without it the server would start, and know no /live.
import websockets  # noqa: F401

from fiml.mcp.http import network_access
from fiml.monitoring.logs import audit_to_stderr, log_to_stderr
from fiml.network.listening import serve_app
from fiml.settings import Settings
from fiml.web.app import build_app

__all__ = ["serve"]


def serve(
    host: str = "127.0.0.1",
    port: int = 8766,
    *,
    settings: Settings | None = None,
    insecure_local: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve page, API, live updates and MCP until SIGTERM or Ctrl-C.

    Args:
        host: an address of this machine.
        port: 0 takes a free one.
        settings: read from the environment unless given.
        insecure_local: ask nobody who they are, and let only this machine connect.
        on_ready: called with the origin once connections are accepted.

    Raises:
        SettingsError: an environment variable does not parse, or the keys of tokens are not there.
        InvalidArgumentError: `insecure_local`, and `host` is no loopback name.
        OSError: the port cannot be had.
    """
    known_settings = settings if settings is not None else Settings.from_environment()
    access = network_access(known_settings, host, insecure_local=insecure_local)
    log_to_stderr(known_settings.log_format)
    audit_to_stderr()
    serve_app(build_app(known_settings, access, host), host, port, on_ready=on_ready)
