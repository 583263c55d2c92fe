"""Where a server logs: standard error, for standard output may be a protocol."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

__all__ = ["audit_to_stderr", "log_to_stderr"]


class _Formatter(logging.Formatter):
    """Shows where an exception was raised, but not what it says.

    The MCP library logs exceptions whose text a client chose; it may hold a user id, or lines that
    look like others of this log.
    """

    def formatException(  # noqa: N802 - the library's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        kind, _, place = ei
        frames = "".join(traceback.format_tb(place)).rstrip()
        return f"{frames}\n{kind.__name__}" if kind is not None else frames


def log_to_stderr() -> None:
    """Log warnings and errors.

    Before a server is made: it would install a handler that wraps and colours.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def audit_to_stderr() -> None:
    """Write the audit log as plain lines of JSON, unless it has a handler already."""
    audit = logging.getLogger("fiml.audit")
    audit.setLevel(logging.INFO)
    if not audit.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        audit.addHandler(handler)
        audit.propagate = False
