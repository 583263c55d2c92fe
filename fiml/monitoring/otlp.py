"""Sends the spans of a process of ours to a collector, where the settings ask for that.

Where to, how often and with which headers is said by OpenTelemetry's own variables. Whatever the
collector does, nobody waits for it but the end of the process, and that for two seconds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from threading import Thread
from typing import TYPE_CHECKING, Final

from fiml.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["sending_spans"]

_SECONDS_TO_SEND_THE_LAST: Final = 2.0

_CREDENTIAL_PROVIDERS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)

_logger = logging.getLogger(__name__)


@contextmanager
def sending_spans(settings: Settings) -> Iterator[None]:
    """Send spans while the block runs; nothing where the settings do not ask for it.

    Raises:
        ModuleNotFoundError: a package of the extra `tracing` is not installed.
    """
    if not settings.traces:
        yield
        return
    provider = _provider()
    try:
        yield
    finally:
        # A flush has no limit of its own. What is not sent by then is lost with the process.
        sending = Thread(target=provider.force_flush, name="last spans", daemon=True)
        sending.start()
        sending.join(_SECONDS_TO_SEND_THE_LAST)


@cache
def _provider() -> TracerProvider:
    # One for the process: OpenTelemetry's cannot be replaced.
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {SERVICE_VERSION: version("session-analytics")}
    # What is given here goes before what the environment says.
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes[SERVICE_NAME] = "session-analytics"
    # Its end at the exit of the process would wait for half a minute.
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_telling_once(_exporter())))
    trace.set_tracer_provider(provider)
    return provider


def _exporter(endpoint: str | None = None) -> OTLPSpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from fiml.monitoring._collector import collector_session

    # A provider of credentials, named to OpenTelemetry, has a session of its own.
    has_own = any(os.environ.get(name) for name in _CREDENTIAL_PROVIDERS)
    return OTLPSpanExporter(endpoint, session=None if has_own else collector_session())


def _telling_once(exporter: SpanExporter) -> SpanExporter:
    """The exporter, which logs that it fails once, and once that it does not any more.

    By itself it logs four lines for each batch, for as long as a collector is away.
    """
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    is_told = False

    def is_news(_record: logging.LogRecord) -> bool:
        nonlocal is_told
        before, is_told = is_told, True
        return not before

    class Telling(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            nonlocal is_told
            result = exporter.export(spans)
            if result is SpanExportResult.SUCCESS and is_told:
                is_told = False
                _logger.warning("spans are sent again")
            return result

        def shutdown(self) -> None:
            exporter.shutdown()
            logger.removeFilter(is_news)

    logger = logging.getLogger(type(exporter).__module__)
    logger.addFilter(is_news)
    return Telling()
