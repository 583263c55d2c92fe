"""Spans: of processes of ours at a collector, and in a program that configured OpenTelemetry."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from monitoring.collector import FAILED, attributes, collecting
from monitoring.conftest import Connection
from opentelemetry.sdk.trace.export import SpanExportResult
from warehouse.application import leave_expired_sessions, record_metrics

from fiml.mcp.server import TOOL_NAME
from fiml.monitoring.otlp import _exporter, _telling_once
from fiml.settings import Settings

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
SECONDS_TO_STOP = 8
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
OF_THE_READER = {"session_analytics.operation", "session_analytics.path", "session_analytics.days"}

# A program of somebody else's, with spans kept in memory.
PROGRAM = """
import asyncio, json, sys

from fiml.database import Database
from fiml.errors import InvalidArgumentError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.settings import Settings

settings = Settings(conninfo=sys.argv[1], timeout_seconds=60)

async def work():
    async with Database(settings) as database:
        analytics = SessionAnalytics(database)
        await analytics.get_session_stats("user 1", "equity", 7)
        await analytics.get_session_timeseries(days=3, grain="hour")
        await archive_expired(database)
        try:
            await analytics.get_session_stats(since="1999-01-01T00:00:00Z")
        except InvalidArgumentError:
            pass
        async for _ in analytics.stream_session_metrics("user 1"):
            pass

asyncio.run(work())
paid = ("opentelemetry", "prometheus_client")
without = sorted(name for name in sys.modules if name.partition(".")[0] in paid)

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
with trace.get_tracer("a program").start_as_current_span("request"):
    asyncio.run(work())
print(json.dumps({
    "without": without,
    "spans": [json.loads(span.to_json()) for span in kept.get_finished_spans()],
}))
"""


def sending_to(endpoint: str, conninfo: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": conninfo,
        "SESSION_ANALYTICS_TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


@contextmanager
def served(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [COMMAND, "serve", "--no-fold", "--insecure-local", "--port", "0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("Serving the page on "), line
            yield process, line.split()[4].removesuffix(";")
        finally:
            process.kill()


def test_a_program_with_spans_of_its_own_sees_those_of_the_reader(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 10)
    leave_expired_sessions(database, 2)
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM, settings.conninfo],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stderr == ""
    told = json.loads(made.stdout)
    # Who does not use it does not pay for it.
    assert told["without"] == []
    spans = told["spans"]
    names = [span["name"] for span in spans]
    assert names == [
        "read stats", "read timeseries", "archive", "read stats", "read stream", "request",
    ]  # fmt: skip
    request = spans[-1]["context"]["span_id"]
    assert {span["parent_id"] for span in spans[:-1]} == {request}
    stats, series, archive, invalid, stream, _ = spans
    assert stats["attributes"] == {
        "session_analytics.operation": "stats",
        "session_analytics.path": "source",
        "session_analytics.session_type": "equity",
        "session_analytics.days": 7.0,
    }
    assert series["attributes"]["session_analytics.grain"] == "hour"
    assert archive["attributes"] == {
        "session_analytics.archived": 0,
        "session_analytics.quarantined": 0,
    }
    assert invalid["status"] == {"status_code": "ERROR"}
    assert invalid["attributes"]["error.type"] == "InvalidArgumentError"
    assert stream["attributes"]["session_analytics.path"] == "source"
    # No error has its text with it.
    assert not any(span["events"] for span in spans)
    assert "user 1" not in made.stdout


@pytest.mark.anyio
async def test_what_a_server_does_is_seen_by_a_collector_under_the_caller_s_trace(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 10)
    with (
        collecting() as collector,
        served(sending_to(collector.endpoint, settings.conninfo)) as (process, origin),
    ):
        traceparent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        async with httpx2.AsyncClient(timeout=60, headers=traceparent) as http:
            assert (await http.get(f"{origin}/api/stats?user=user+1&days=7")).status_code == 200
            assert (await http.get(f"{origin}/?user=user+1")).status_code == 200
            assert (await http.get(f"{origin}/user%201")).status_code == 404
            async with Client(streamable_http_client(f"{origin}/mcp", http_client=http)) as client:
                result = await client.call_tool(TOOL_NAME, {"userId": "user 2"})
                assert not result.is_error
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, SECONDS_TO_STOP) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert collector.services == {"session-analytics"}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    (stats,) = collector.named("GET /api/stats")
    assert stats.parent_span_id.hex() == CALLER
    assert attributes(stats) == {
        "http.request.method": "GET",
        "http.route": "/api/stats",
        "http.response.status_code": 200,
        "url.scheme": "http",
    }
    (read,) = collector.children(stats)
    assert read.name == "read stats"
    assert attributes(read).keys() == OF_THE_READER
    assert attributes(read)["session_analytics.days"] == 7
    (page,) = collector.named("GET /")
    assert [span.name for span in collector.children(page)] == ["read view"]
    # What somebody asked for and is not there is a name of theirs.
    (missing,) = collector.named("GET")
    assert attributes(missing)["http.response.status_code"] == 404
    (call,) = collector.named("mcp call")
    assert attributes(call) == {"session_analytics.tool": TOOL_NAME}
    assert [span.name for span in collector.children(call)] == ["read stats"]
    assert any(call in collector.children(post) for post in collector.named("POST /mcp"))
    for body in collector.bodies:
        for text in (b"user 1", b"user 2", b"user+1", b"user%201"):
            assert text not in body


@pytest.mark.anyio
async def test_nothing_that_an_mcp_client_writes_is_in_a_span(settings: Settings) -> None:
    word = "analyst_001"
    calls: list[tuple[str, dict[str, object]]] = [
        ("tools/call", {"name": f"{word} tool", "arguments": {}}),
        ("tools/call", {"name": TOOL_NAME, "arguments": {word: word}}),
        ("tools/call", {"name": TOOL_NAME, "arguments": {"userId": word, "days": word}}),
        ("tools/call", {"name": TOOL_NAME, "arguments": {"userId": word}}),
        ("tools/call", {"name": TOOL_NAME, "arguments": word}),
        ("prompts/get", {"name": f"{word} prompt"}),
        ("resources/read", {"uri": f"file:///{word}"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": word}, "argument": word}),
        (f"{word}/method", {"name": word}),
        ("initialize", {"clientInfo": {"name": word, "version": word}, "protocolVersion": word}),
    ]
    with (
        collecting() as collector,
        served(sending_to(collector.endpoint, settings.conninfo)) as (process, origin),
    ):
        headers = {
            "accept": "application/json, text/event-stream",
            "traceparent": f"00-{TRACE}-{CALLER}-01",
            "tracestate": f"vendor={word}",
            "baggage": f"user={word}",
        }
        async with httpx2.AsyncClient(timeout=60, headers=headers) as http:
            for method, params in calls:
                named = {"jsonrpc": "2.0", "id": f"{word} id", "method": method}
                meta = {"traceparent": headers["traceparent"], "tracestate": f"vendor={word}"}
                message = {**named, "params": {**params, "_meta": meta}}
                answer = await http.post(f"{origin}/mcp", json=message)
                # It went as far as the library, and not only to what parses a message.
                assert f"{word} id" in answer.text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, SECONDS_TO_STOP) == 0
    assert len(collector.named("POST /mcp")) == len(calls)
    # The tool that there is was called, and told nothing but types of errors.
    kinds = {attributes(call).get("error.type") for call in collector.named("mcp call")}
    assert kinds == {None, "InvalidArgumentError", "InvalidDaysError"}
    assert {span.name for span in collector.spans} == {"POST /mcp", "mcp call", "read stats"}
    for span in collector.spans:
        assert not span.trace_state
        assert not span.events
        assert not span.status.message
    for body in collector.bodies:
        assert word.encode() not in body


@pytest.mark.anyio
async def test_a_collector_that_does_not_answer_holds_up_nothing(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 10)
    # It takes connections and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = sending_to(endpoint, settings.conninfo) | {"OTEL_BSP_SCHEDULE_DELAY": "10"}
        with served(environment) as (process, origin):
            async with httpx2.AsyncClient(timeout=60) as http:
                for _ in range(20):
                    assert (await http.get(f"{origin}/api/stats")).status_code == 200
            # It is being sent to, and would be for the ten seconds of an export.
            silent.accept()[0].close()
            began = monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, SECONDS_TO_STOP) == 0
            assert monotonic() - began < SECONDS_TO_STOP


def test_a_collector_that_takes_nothing_is_told_once_and_that_it_does_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with collecting() as collector:
        exporter = _telling_once(_exporter(f"{collector.endpoint}/v1/traces"))
        for is_refusing in (False, True, True, False, False, True):
            collector.is_refusing = is_refusing
            exporter.export([])
        exporter.shutdown()
    refused, again, refused_again = caplog.messages
    assert refused == refused_again
    assert "400" in refused
    assert again == "spans are sent again"


def test_of_a_collector_s_answer_little_is_read() -> None:
    with collecting() as collector:
        exporter = _exporter(f"{collector.endpoint}/v1/traces")
        for _ in range(3):
            assert exporter.export([]) is SpanExportResult.SUCCESS
        assert collector.connections == 1
        collector.padding = 50_000_000
        assert exporter.export([]) is SpanExportResult.SUCCESS
        # What it could send is what was read, and what the buffers of two sockets hold.
        collector.padding = 0
        assert exporter.export([]) is SpanExportResult.SUCCESS
        # The connection with what was not read is given up.
        assert collector.connections > 1
        exporter.shutdown()
    assert collector.sent < 25_000_000


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_collector_that_redirects_has_taken_nothing_and_is_told_once(
    caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with collecting() as collector:
        exporter = _telling_once(_exporter(f"{collector.endpoint}/v1/traces"))
        collector.status = status
        for _ in range(3):
            assert exporter.export([]) is SpanExportResult.FAILURE
        assert len(collector.bodies) == 3
        collector.status = 200
        assert exporter.export([]) is SpanExportResult.SUCCESS
        exporter.shutdown()
    redirected, again = caplog.messages
    assert f"the collector redirects ({status}), which is not followed" in redirected
    assert again == "spans are sent again"


def test_archival_a_build_with_its_models_and_a_fold_are_seen(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 10)
    leave_expired_sessions(database, 3)
    with collecting() as collector:
        environment = sending_to(collector.endpoint, settings.conninfo)
        for command in ("archive", "build"):
            subprocess.run(
                [COMMAND, command], env=environment, check=True, capture_output=True, text=True
            )
        _fold_twice(environment | {"OTEL_SERVICE_NAME": "folder"}, database)
    (archive,) = collector.named("archive")
    assert attributes(archive)["session_analytics.archived"] == 3
    (build,) = collector.named("build")
    models = collector.children(build)
    assert "model session_totals" in {span.name for span in models}
    assert all(build.start_time_unix_nano <= span.start_time_unix_nano for span in models)
    assert all(span.end_time_unix_nano <= build.end_time_unix_nano for span in models)
    # The process that folds is ended within the second fold perhaps, and never within the first.
    assert any(span.status.code != FAILED for span in collector.named("fold"))
    assert collector.services == {"session-analytics", "folder"}
    assert FAILED not in {span.status.code for span in (archive, build, *models)}
    # The same build, as others see it.
    row = database.execute(
        "select is_successful, finished_at > started_at from analytics.last_build"
    ).fetchone()
    assert row == (True, True)


def _fold_twice(environment: dict[str, str], database: Connection) -> None:
    with subprocess.Popen([COMMAND, "fold"], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(2):
                record_metrics(database, 3)
                _wait_until_all_is_folded(database)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS_TO_STOP) == 0
        finally:
            process.kill()


def _wait_until_all_is_folded(database: Connection) -> None:
    while database.execute(
        """
        select 1 from analytics.session_changes
        inner join analytics.mart_states on mart_states.mart = 'session_totals'
        where analytics.is_unseen(session_changes.xid, mart_states.watermark)
        """
    ).fetchone():
        pass
