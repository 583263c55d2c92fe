"""`/metrics`, on a listener of its own: no token comes there, and nobody's figures are there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socket import SHUT_RDWR, socket
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Lock, Thread
from time import monotonic
from typing import Any, Final
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
_CONNECTIONS_AT_MOST: Final = 32
_SECONDS_FOR_A_PLACE: Final = 1.0
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
        server = _Server((host, port))
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
    """A thread for each connection, for few at once, and none for long."""

    # Whoever is still being answered does not hold up the end of the process.
    daemon_threads = True
    block_on_close = False
    registry: CollectorRegistry
    host: str

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self._places = BoundedSemaphore(_CONNECTIONS_AT_MOST)
        # It goes with the two below; a socket is closed after it has left them.
        self._lock = Lock()
        self._ends: dict[socket, float] = {}
        # Those that have not said yet what they want, the oldest first.
        self._asking: dict[socket, None] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            # A scraper asks at once: whoever has been connected for longest does not want to.
            self._end_the_oldest()
            if not self._places.acquire(timeout=_SECONDS_FOR_A_PLACE):
                self.shutdown_request(request)
                return
        with self._lock:
            self._ends[request] = monotonic() + _SECONDS_FOR_A_REQUEST
            self._asking[request] = None
        super().process_request(request, client_address)

    def has_asked(self, request: socket) -> None:
        """Note that it is being answered."""
        with self._lock:
            self._asking.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            has_place = self._ends.pop(request, None) is not None
            self._asking.pop(request, None)
        super().shutdown_request(request)
        if has_place:
            self._places.release()

    def service_actions(self) -> None:
        # A limit for what is read at once would begin anew with each byte.
        now = monotonic()
        with self._lock:
            for request, end in self._ends.items():
                if end <= now:
                    _end(request)

    def _end_the_oldest(self) -> None:
        with self._lock:
            oldest = next(iter(self._asking), None)
            if oldest is not None:
                del self._asking[oldest]
                _end(oldest)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: what is left here is a scraper that went away."""


def _end(request: socket) -> None:
    # Its thread finds that there is nothing more to read, and closes it.
    with suppress(OSError):
        request.shutdown(SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS_FOR_A_REQUEST

    def do_GET(self) -> None:
        self.server.has_asked(self.connection)
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
            # Whatever a metric failed with is told, and the next scrape may succeed.
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
