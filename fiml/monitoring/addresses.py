"""Where metrics are served, as an option says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fiml.errors import InvalidArgumentError
from fiml.sessions._arguments import shown

__all__ = ["Address", "parse_address"]

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine, and a port; 0 takes a free one."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read `PORT` or `HOST:PORT`, an IPv6 address in brackets; without a host it is loopback.

    Raises:
        InvalidArgumentError: it is neither.
    """
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        port = ""
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535
    if not is_port or (separator and not host):
        raise InvalidArgumentError(
            f"metrics is {shown(text)}; expected PORT, HOST:PORT or [IPv6]:PORT"
        )
    return Address(host or _HOST, int(port))
