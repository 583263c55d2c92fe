"""`/metrics`, on a listener of its own: no token comes there, and nobody's figures are there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from fiml.monitoring.metrics import Metrics
from fiml.monitoring.state import DatabaseWatch
from fiml.network.listening import listener
from fiml.network.names import in_url, is_own_name
from fiml.settings import Settings

__all__ = ["METRICS_PATH", "serving_metrics"]

_logger = logging.getLogger(__name__)

METRICS_PATH: Final = "/metrics"
_SECONDS_FOR_A_REQUEST: Final = 10.0
_SECONDS_TO_NOTICE_THE_END: Final = 0.1


@contextmanager
def serving_metrics(
    settings: Settings, host: str, port: int, *, on_ready: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Serve the metrics of this process while the block runs.

    Args:
        settings: the database, with a login that may read or build.
        host: an address of this machine.
        port: 0 takes a free one.
        on_ready: called with the URL once connections are accepted.

    Raises:
        OSError: the port cannot be had.
    """
    with listener(host, port) as sock:
        watch = DatabaseWatch(settings)
        metrics = Metrics(watch)
        server = _Server((host, port), _Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = sock
        server.registry = metrics.registry
        server.host = host
        thread = Thread(
            target=server.serve_forever,
            args=[_SECONDS_TO_NOTICE_THE_END],
            name="metrics",
            daemon=True,
        )
        thread.start()
        try:
            if on_ready is not None:
                on_ready(f"http://{in_url(host)}:{sock.getsockname()[1]}{METRICS_PATH}")
            yield
        finally:
            server.shutdown()
            thread.join()
            metrics.close()
            watch.close()


class _Server(ThreadingTCPServer):
    # Whoever is still being answered does not hold up the end of the process.
    daemon_threads = True
    block_on_close = False
    registry: CollectorRegistry
    host: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: what is left here is a scraper that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS_FOR_A_REQUEST

    def do_GET(self) -> None:
        given = self.headers.get_all("Host", [])
        if len(given) != 1 or not is_own_name(given[0], self.server.host):
            self._answer(421, "text/plain; charset=utf-8", b"This server has another name.\n")
            return
        if urlsplit(self.path).path != METRICS_PATH:
            self._answer(404, "text/plain; charset=utf-8", b"Metrics are at /metrics.\n")
            return
        try:
            body = generate_latest(self.server.registry)
        except Exception:
            _logger.exception("metrics failed")
            self._answer(500, "text/plain; charset=utf-8", b"It was logged.\n")
            return
        self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, body)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "session-analytics"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing: one line for each scrape says nothing."""
