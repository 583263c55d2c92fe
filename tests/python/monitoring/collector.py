"""A collector of spans, as OpenTelemetry's is for an exporter: OTLP over HTTP on loopback."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

OK = 0
FAILED = 2
PIECE = 50_000


@dataclass
class Collector:
    """What came in.

    Attributes:
        endpoint: what OTEL_EXPORTER_OTLP_ENDPOINT is to be.
        bodies: each request, as bytes.
        spans: of all requests.
        services: the names of the services that sent them.
        is_refusing: whether it takes nothing.
        status: what it answers where it does not refuse.
        padding: how many bytes more than needed it answers.
        sent: how many of them it could send.
        connections: how many were made.
    """

    endpoint: str
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    is_refusing: bool = False
    status: int = 200
    padding: int = 0
    sent: int = 0
    connections: int = 0

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_span_id == parent.span_id]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for resource in request.resource_spans:
            self.services.add(attributes(resource.resource)["service.name"])
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


def attributes(described: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {
        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")))
        for pair in described.attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            collector.connections += 1

        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if not collector.is_refusing:
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(400 if collector.is_refusing else collector.status)
            self.send_header("Location", "/v1/traces")
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer) + collector.padding))
            self.end_headers()
            self.wfile.write(answer)
            for _ in range(0, collector.padding, PIECE):
                try:
                    self.wfile.write(bytes(PIECE))
                except ConnectionError:
                    self.close_connection = True
                    break
                collector.sent += PIECE

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
