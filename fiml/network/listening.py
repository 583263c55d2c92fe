"""An application on a socket of this machine, until a signal."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

from fiml.network.names import in_url

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

__all__ = ["listener", "serve_app", "why_not_listening"]

_logger = logging.getLogger(__name__)

_SECONDS_TO_STOP: Final = 2
# What a client may say at once over a WebSocket.
_LONGEST_MESSAGE: Final = 65_536
# Of a request, before its body.
_LONGEST_HEAD: Final = 65_536
# How the server's line about them begins; its argument is their number.
_CANCELLING: Final = "Cancel %s running task"
_MILLISECONDS_FOR_A_SILENT_PEER: Final = 60_000


def serve_app(
    app: ASGIApp, host: str, port: int, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGTERM, or Ctrl-C, which is a KeyboardInterrupt; requests under way end first.

    Args:
        app: what to serve.
        host: an address of this machine.
        port: 0 takes a free one.
        on_ready: called with the origin once connections are accepted.

    Raises:
        OSError: the port cannot be had.
    """
    import anyio
    import uvicorn

    with listener(host, port) as sock:
        config = uvicorn.Config(
            app,
            log_config=None,
            # It would show what somebody put into a query string.
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=_LONGEST_MESSAGE,
            # The faster parser takes a request line or headers of any length.
            http="h11",
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            timeout_graceful_shutdown=_SECONDS_TO_STOP,
        )
        server = uvicorn.Server(config)
        with _returning_after_sigterm(server), _told_quietly(lambda: server.should_exit):
            # Whoever hears of it may stop it at once.
            if on_ready is not None:
                on_ready(f"http://{in_url(host)}:{sock.getsockname()[1]}")
            anyio.run(lambda: server.serve(sockets=[sock]))


def listener(host: str, port: int) -> socket.socket:
    """A socket that accepts connections.

    Raises:
        OSError: the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family)
    except socket.gaierror:
        raise
    except OSError as error:
        # Python adds the address, which whoever asked for it knows.
        raise type(error)(error.errno, os.strerror(error.errno or 0)) from None
    # Its connections inherit it. Without it the end of an answer waits for the client to
    # acknowledge the beginning, which takes 40 ms; asyncio sets it on sockets of its own only.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Who reads nothing any more is let go, and what was to be sent with it.
    with suppress(AttributeError, OSError):
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _MILLISECONDS_FOR_A_SILENT_PEER
        )
    return sock


def why_not_listening(error: OSError, host: str, port: int, option: str, *, what: str = "") -> str:
    """A sentence for whoever started this process.

    Args:
        error: what `listener` raised.
        host: where it should have listened.
        port: which port.
        option: of the command, that names another one.
        what: should have listened there, such as ` for metrics`.
    """
    sentence = f"cannot listen{what} on {host} port {port}: "
    if error.errno == errno.EADDRINUSE:
        return sentence + (
            f"another process listens there; choose another port with {option}, where 0 takes a "
            "free one"
        )
    if error.errno == errno.EACCES:
        return sentence + f"permission denied; choose a port from 1024 on with {option}"
    return sentence + str(error.strerror)


@contextmanager
def _told_quietly(is_stopping: Callable[[], bool]) -> Iterator[None]:
    """One line for requests that a stop did not wait for.

    The server logs an error, and of each of them where it was when it was cancelled: a page of
    frames, and nothing is wrong.
    """

    def is_news(record: logging.LogRecord) -> bool:
        if not is_stopping():
            return True
        if record.exc_info and isinstance(record.exc_info[1], CancelledError):
            return False
        if str(record.msg).startswith(_CANCELLING):
            _logger.warning(
                "requests that did not end within %d s of the signal were cancelled: %s",
                _SECONDS_TO_STOP,
                *(record.args if isinstance(record.args, tuple) else ()),
            )
            return False
        return True

    servers = logging.getLogger("uvicorn.error")
    servers.addFilter(is_news)
    try:
        yield
    finally:
        servers.removeFilter(is_news)


@contextmanager
def _returning_after_sigterm(server: Server) -> Iterator[None]:
    # uvicorn comes to its end, and then raises the signal again for whoever waited for it before:
    # that would end this process before what runs beside the server is put away.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Before uvicorn has a handler of its own it is asked here: it starts, and ends.
        server.should_exit = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
