"""Where a process logs: standard error, for standard output may be a protocol.

As text, or as one JSON object a line. Neither shows what an exception says.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeAlias

__all__ = ["LogFormat", "audit_to_stderr", "line_formatter", "log_to_stderr"]

ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LogFormat(StrEnum):
    """What a line of the log is."""

    TEXT = "text"
    JSON = "json"


class _TextLines(logging.Formatter):
    """Shows where an exception was raised, but not what it says.

    The MCP library logs exceptions whose text a client chose; it may hold a user id, or lines that
    look like others of this log.
    """

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the library's name
        kind, _, place = ei
        frames = "".join(traceback.format_tb(place)).rstrip()
        return f"{frames}\n{kind.__name__}" if kind is not None else frames


class _JsonLines(logging.Formatter):
    """One JSON object a line; of an exception, its type and where it was raised, as above."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, place = record.exc_info
            line["exception"] = {
                "type": kind.__name__,
                "frames": [
                    {"file": frame.filename, "line": frame.lineno, "function": frame.name}
                    for frame in traceback.extract_tb(place)
                ],
            }
        line |= _span_of_the_moment()
        return json.dumps(line, ensure_ascii=False)


def _span_of_the_moment() -> dict[str, str]:
    # Who traces has imported it.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "get_current_span"):
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def line_formatter(log_format: LogFormat) -> logging.Formatter:
    """What makes a line of a record."""
    if log_format is LogFormat.JSON:
        return _JsonLines()
    return _TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s")


def log_to_stderr(log_format: LogFormat = LogFormat.TEXT) -> None:
    """Log warnings and errors.

    Before a server is made: it would install a handler that wraps and colours.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(line_formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # Two lines for each attempt to connect, every second or two while the database is away. That it
    # is away is told by what needed it: a request that failed, live updates that pause.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


def audit_to_stderr() -> None:
    """Write the audit log as plain lines of JSON, unless it has a handler already."""
    audit = logging.getLogger("fiml.audit")
    audit.setLevel(logging.INFO)
    if not audit.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        audit.addHandler(handler)
        audit.propagate = False
