"""Spans of OpenTelemetry, in programs that use it.

Who configured it has imported it, so nothing here does: in a program without it a span costs one
look into a dictionary. No span carries a user id, a name from a session or the text of an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["Attributes", "fail", "past_span", "prefixed", "spanning", "tracer"]

Attributes: TypeAlias = Mapping[str, str | int | float | bool | None]

_PREFIX: Final = "session_analytics."

_known: tuple[TracerProvider, Tracer] | None = None


def tracer() -> Tracer | None:
    """The tracer of this package; None where nobody configured one."""
    global _known
    trace = sys.modules.get("opentelemetry.trace")
    # While another thread imports it, it is there and not complete.
    if trace is None or not hasattr(trace, "get_tracer_provider"):
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    if _known is None or _known[0] is not provider:
        from importlib.metadata import version

        name = "session-analytics"
        _known = provider, provider.get_tracer(name, version(name))
    return _known[1]


@contextmanager
def spanning(name: str, attributes: Attributes | None = None) -> Iterator[Span | None]:
    """A span around the block, the parent of those inside; None where there is no tracer.

    Args:
        name: what is done, such as "archive".
        attributes: names without the prefix; those that are None are left out.
    """
    own = tracer()
    if own is None:
        yield None
        return
    with own.start_as_current_span(
        name,
        attributes=prefixed(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            fail(span, error)
            raise


def past_span(
    name: str,
    began: datetime,
    ended: datetime,
    *,
    is_failed: bool = False,
    parent: Span | None = None,
) -> Span | None:
    """A span of something that is over; None where there is no tracer.

    Args:
        name: what was done.
        began, ended: when; with a time zone.
        is_failed: whether it did not succeed.
        parent: the span that it was a part of; None takes that of the moment.
    """
    own = tracer()
    if own is None:
        return None
    from opentelemetry.trace import StatusCode, set_span_in_context

    context = None if parent is None else set_span_in_context(parent)
    span = own.start_span(name, context, start_time=_nanoseconds(began))
    if is_failed:
        span.set_status(StatusCode.ERROR)
    span.end(_nanoseconds(ended))
    return span


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000


def prefixed(attributes: Attributes) -> dict[str, str | int | float | bool]:
    """The attributes that are there, under names of this package."""
    return {_PREFIX + name: value for name, value in attributes.items() if value is not None}


def fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed, by the error's type: what its text repeats may be anybody's."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)
