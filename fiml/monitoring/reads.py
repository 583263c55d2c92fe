"""Reads, as metrics and spans tell of them: what was asked, which path answered, how long it took.

Where nobody listens, a read costs less than a microsecond more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from enum import StrEnum
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from fiml.errors import (
    DatabaseUnavailableError,
    DeadlineExceededError,
    InvalidArgumentError,
    PoolExhaustedError,
    SchemaVersionError,
    SessionAnalyticsError,
)
from fiml.monitoring.spans import Attributes, fail, prefixed, tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["FAILURES", "Operation", "Path", "Reading", "Told", "listen", "took"]


class Operation(StrEnum):
    """What is asked of the reader."""

    STATS = "stats"
    TIMESERIES = "timeseries"
    EXPORT_JSON = "export_json"
    EXPORT_CSV = "export_csv"
    EXPORT_XLSX = "export_xlsx"
    EXPORT_PDF = "export_pdf"
    REPORT = "report"
    STREAM = "stream"
    VIEW = "view"


class Path(StrEnum):
    """What an answer was made of; of several, the slowest. As `meta.path` has it."""

    NONE = "none"
    SERVING = "serving"
    MARTS = "marts"
    SOURCE = "source"


# The kinds of failures, and the errors that are of them; the first that fits counts.
_KINDS: Final = (
    ("unavailable", DatabaseUnavailableError),
    ("pool_exhausted", PoolExhaustedError),
    ("deadline", DeadlineExceededError),
    ("schema_version", SchemaVersionError),
    ("invalid", InvalidArgumentError),
    ("refused", SessionAnalyticsError),
    ("cancelled", asyncio.CancelledError),
    ("unexpected", Exception),
)
FAILURES: Final = tuple(name for name, _ in _KINDS)
_SLOWNESS: Final = {path: rank for rank, path in enumerate(Path)}


class Told(NamedTuple):
    """A read that has ended.

    Attributes:
        operation: what was asked.
        path: what answered.
        seconds: from the call to the answer, waiting for a connection included.
        failure: one of `FAILURES`; None where it was answered.
    """

    operation: Operation
    path: Path
    seconds: float
    failure: str | None


Listener = Callable[[Told], None]

_listeners: list[Listener] = []
_current: ContextVar[Reading | None] = ContextVar("session_analytics_reading", default=None)


def listen(listener: Listener) -> Callable[[], None]:
    """Have every read of this process told to a listener, and return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def took(path: str) -> None:
    """Note what answered the read that is under way, if one is."""
    reading = _current.get()
    if reading is not None:
        reading.note(Path(path))


class Reading:
    """A read, from `with` to its end."""

    __slots__ = (
        "_attributes", "_began", "_is_current", "_operation", "_path", "_scope", "_span", "_token"
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        attributes: Attributes | None = None,
        *,
        path: Path = Path.NONE,
        is_current: bool = True,
    ) -> None:
        """Take what is asked.

        Args:
            operation: what.
            attributes: of the span, besides operation and path.
            path: where it is known before.
            is_current: whether `took` is about it, and spans are inside it. Not where the block
                yields: what comes between two steps of a generator belongs to its consumer.
        """
        self._operation = operation
        self._attributes = attributes
        self._path = path
        self._is_current = is_current
        self._began: float | None = None
        self._token: Token[Reading | None] | None = None
        self._scope: AbstractContextManager[Any] | None = None
        self._span: Span | None = None

    def note(self, path: Path) -> None:
        """Note what answered; of several, the slowest counts."""
        if _SLOWNESS[path] > _SLOWNESS[self._path]:
            self._path = path

    def __enter__(self) -> Self:
        """Begin, where somebody listens."""
        own = tracer()
        if own is None and not _listeners:
            return self
        if self._is_current:
            self._token = _current.set(self)
        if own is not None:
            name = f"read {self._operation}"
            attributes = prefixed({"operation": self._operation, **(self._attributes or {})})
            self._span = own.start_span(name, attributes=attributes)
            if self._is_current:
                from opentelemetry.trace import use_span

                self._scope = use_span(
                    self._span, record_exception=False, set_status_on_exception=False
                )
                self._scope.__enter__()
        self._began = perf_counter()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _place: TracebackType | None,
    ) -> None:
        """Tell who listens."""
        if self._began is None:
            return
        seconds = perf_counter() - self._began
        # A stream that is closed early has answered.
        failed = None if isinstance(error, GeneratorExit) else error
        if self._token is not None:
            _current.reset(self._token)
        if self._scope is not None:
            self._scope.__exit__(None, None, None)
        if self._span is not None:
            self._span.set_attributes(prefixed({"path": self._path}))
            if failed is not None:
                fail(self._span, failed)
            self._span.end()
        told = Told(
            self._operation, self._path, seconds, None if failed is None else _kind_of(failed)
        )
        for listener in tuple(_listeners):
            listener(told)


def _kind_of(error: BaseException) -> str:
    for name, kind in _KINDS:
        if isinstance(error, kind):
            return name
    return _KINDS[-1][0]
