"""The tool as a client meets it: in memory, over stdio and over HTTP."""

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import psycopg
import pytest
from identity.mcp_calls import MODES, refusal, text_of
from mcp import Client, StdioServerParameters
from psycopg import sql

from fiml.database import Database
from fiml.errors import InvalidArgumentError
from fiml.mcp.http import serve_http
from fiml.mcp.server import TOOL_NAME, build_server
from fiml.sessions.analytics import NO_METRICS_MESSAGE, SessionAnalytics
from fiml.sessions.migrations import migrate
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

COMMAND = str(Path(sys.executable).with_name("session-analytics"))


def in_memory(conninfo: str, mode: str = "auto") -> Client:
    return Client(build_server(Settings(conninfo=conninfo, timeout_seconds=10)), mode=mode)


async def call(client: Client, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(TOOL_NAME, arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    assert json.loads(text_of(result)) == result.structured_content
    return result.structured_content


@MODES
async def test_the_tool_says_what_it_takes_gives_and_leaves_alone(conninfo: str, mode: str) -> None:
    async with in_memory(conninfo, mode) as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.name == "get-session-analytics"
    assert tool.input_schema["additionalProperties"] is False
    assert "required" not in tool.input_schema
    properties = tool.input_schema["properties"]
    assert properties.keys() == {"userId", "sessionType", "days"}
    assert all(schema["description"] for schema in properties.values())
    assert (properties["userId"]["minLength"], properties["userId"]["maxLength"]) == (1, 255)
    assert properties["sessionType"]["enum"] == [
        "equity",
        "crypto",
        "portfolio",
        "comparative",
        "macro",
        None,
    ]
    days = properties["days"]
    assert (days["type"], days["minimum"], days["maximum"], days["default"]) == (
        "integer",
        1,
        3650,
        30,
    )
    assert tool.output_schema is not None
    assert tool.output_schema["properties"].keys() - tool.output_schema["required"] == {"message"}
    assert tool.output_schema["properties"]["message"]["type"] == "string"
    hints = tool.annotations
    assert hints is not None
    assert hints.read_only_hint
    assert hints.idempotent_hint
    assert hints.destructive_hint is False
    assert hints.open_world_hint is False


@MODES
async def test_the_answer_is_the_librarys_in_structure_and_text(conninfo: str, mode: str) -> None:
    async with Database(Settings(conninfo=conninfo)) as database:
        expected = await SessionAnalytics(database).get_session_stats("analyst_001", "equity", 7)
    async with in_memory(conninfo, mode) as client:
        (tool,) = (await client.list_tools()).tools
        answer = await call(client, userId="analyst_001", sessionType="equity", days=7)
    assert answer == expected
    assert answer["total_sessions"] == 1
    assert tool.output_schema is not None
    jsonschema.validate(answer, tool.output_schema)
    jsonschema.Draft202012Validator.check_schema(tool.input_schema)


@pytest.mark.parametrize("arguments", [{}, {"userId": None, "sessionType": None}])
async def test_without_a_user_and_a_type_it_answers_for_all(
    conninfo: str, arguments: dict[str, Any]
) -> None:
    async with in_memory(conninfo) as client:
        answer = await call(client, **arguments)
    assert answer["total_sessions"] == 3
    assert answer["period_days"] == 30
    assert answer["user_id"] is None
    assert answer["popular_tags"] == [{"tag": "növel", "count": 1}, {"tag": "tech", "count": 1}]
    assert "message" not in answer


async def test_the_message_comes_exactly_with_no_sessions(conninfo: str) -> None:
    async with in_memory(conninfo) as client:
        (tool,) = (await client.list_tools()).tools
        answer = await call(client, userId="new_user")
    assert answer["total_sessions"] == 0
    assert answer["message"] == NO_METRICS_MESSAGE
    assert tool.output_schema is not None
    jsonschema.validate(answer, tool.output_schema)


async def test_a_user_called_null_is_a_user(conninfo: str) -> None:
    async with in_memory(conninfo) as client:
        answer = await call(client, userId="null")
    assert answer["user_id"] == "null"
    assert answer["total_sessions"] == 1


@MODES
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"days": "7"}, "days is '7'; expected an integer from 1 to 3650."),
        ({"days": 7.0}, "days is 7.0; expected an integer from 1 to 3650."),
        ({"days": True}, "days is True; expected an integer from 1 to 3650."),
        ({"days": None}, "days is null; expected an integer from 1 to 3650."),
        ({"days": 0}, "days is 0; expected an integer from 1 to 3650."),
        ({"days": 3651}, "days is 3651; expected an integer from 1 to 3650."),
        ({"days": 10**30}, f"days is {10**30}; expected an integer from 1 to 3650."),
        ({"userId": ""}, "userId has 0 characters; expected a string of 1 to 255 characters."),
        (
            {"userId": "x" * 256},
            "userId has 256 characters; expected a string of 1 to 255 characters.",
        ),
        ({"userId": "a\0b"}, "userId holds a NUL character"),
        ({"userId": 7}, "userId is of type int; expected a string"),
        ({"userId": ["analyst_001"]}, "userId is of type list; expected a string"),
        (
            {"sessionType": "stocks"},
            "sessionType is 'stocks'; expected one of equity, crypto, portfolio, comparative, "
            "macro.",
        ),
        ({"sessionType": "Equity"}, "sessionType is 'Equity'"),
        (
            {"user_id": "analyst_001"},
            "Unknown argument 'user_id'; the arguments are userId, sessionType, days.",
        ),
        ({"days": 7, "limit": 3}, "Unknown argument 'limit'"),
    ],
)
async def test_a_wrong_argument_is_refused_with_what_is_allowed(
    conninfo: str, mode: str, arguments: dict[str, Any], told: str
) -> None:
    async with in_memory(conninfo, mode) as client:
        assert (await refusal(client, **arguments)).startswith(told)


async def test_an_endless_argument_is_not_repeated_in_full(conninfo: str) -> None:
    async with in_memory(conninfo) as client:
        assert len(await refusal(client, sessionType="x" * 100_000)) <= 500
        assert len(await refusal(client, **{"x" * 100_000: 1})) <= 500


async def test_a_server_starts_before_its_database_and_answers_once_it_is_there(
    server: Any,
) -> None:
    name = f"session_analytics_test_{uuid.uuid4().hex}"
    conninfo = server.conninfo(name)
    try:
        async with in_memory(conninfo) as client:
            unreachable = await refusal(client)
            assert unreachable.startswith("The session database cannot be reached.")
            assert name not in unreachable
            with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            assert "not prepared" in await refusal(client)
            migrate(conninfo)
            assert (await call(client))["total_sessions"] == 0
    finally:
        server.drop_database(name)


async def test_a_database_that_breaks_and_comes_back_is_followed(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as other:
        async with in_memory(conninfo) as client:
            assert (await call(client))["total_sessions"] == 3
            other.execute("alter function analytics.horizon() rename to gone")
            assert "not prepared" in await refusal(client)
            other.execute("alter function analytics.gone() rename to horizon")
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
            assert (await call(client))["total_sessions"] == 3


async def test_an_unexpected_error_tells_the_client_nothing_and_the_log_no_values(
    conninfo: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(self: object, **arguments: object) -> None:
        raise RuntimeError(f"row of {arguments['user_id']}")

    monkeypatch.setattr(SessionAnalytics, "get_session_stats", crash)
    with caplog.at_level(logging.DEBUG):
        async with in_memory(conninfo) as client:
            told = await refusal(client, userId="analyst_001")
    assert "RuntimeError" not in told
    assert "analyst_001" not in told
    logged = [record.getMessage() for record in caplog.records if record.name == "fiml.mcp.server"]
    assert any("RuntimeError" in line and "in crash" in line for line in logged)
    assert "analyst_001" not in caplog.text


async def test_over_stdio_a_real_client_gets_the_same_answer(conninfo: str, tmp_path: Path) -> None:
    parameters = StdioServerParameters(
        command=COMMAND, args=["mcp"], env={"DATABASE_URL": conninfo}, cwd=tmp_path
    )
    async with Client(parameters) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [TOOL_NAME]
        assert (await call(client, userId="analyst_001"))["top_assets"] == [
            {"symbol": "AAPL", "count": 1},
            {"symbol": "MSFT", "count": 1},
        ]
        assert "Unknown argument" in await refusal(client, user_id="analyst_001")


def request(number: int, method: str, **parameters: object) -> str:
    return json.dumps(
        {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}, allow_nan=True
    )


HELLO = (
    request(
        1,
        "initialize",
        protocolVersion="2025-06-18",
        capabilities={},
        clientInfo={"name": "test", "version": "1"},
    )
    + '\n{"jsonrpc": "2.0", "method": "notifications/initialized"}'
)


@contextmanager
def started(*arguments: str, conninfo: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [COMMAND, *arguments],
        env={**os.environ, "DATABASE_URL": conninfo},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_over_stdio_nan_is_refused_output_is_protocol_only_and_eof_ends_it(conninfo: str) -> None:
    def ask(line: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer["result"]

    with started("mcp", conninfo=conninfo) as process:
        assert ask(HELLO)["serverInfo"]["name"] == "session-analytics"
        for number, days, is_error in ((2, float("nan"), True), (3, 30, False)):
            answer = ask(request(number, "tools/call", name=TOOL_NAME, arguments={"days": days}))
            assert answer["isError"] is is_error
        assert answer["structuredContent"]["total_sessions"] == 3
        assert "message" not in answer["structuredContent"]
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0


def test_ctrl_c_ends_a_stdio_server_quietly(conninfo: str) -> None:
    with started("mcp", conninfo=conninfo) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(HELLO + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(signal.SIGINT)
        # Standard input stays open: the server must not wait for its end.
        assert process.wait(timeout=10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextmanager
def http_server(conninfo: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    local = ("mcp", "--http", "--insecure-local", "--port", "0")
    with started(*local, conninfo=conninfo) as process:
        assert process.stderr is not None
        first_line = process.stderr.readline()
        assert first_line.startswith("Serving MCP on http://127.0.0.1:")
        yield process, first_line.split()[3].removesuffix(";")


async def test_over_http_a_real_client_gets_the_same_answer_and_ctrl_c_ends_the_server(
    conninfo: str,
) -> None:
    with http_server(conninfo) as (process, url):
        async with Client(url) as client:
            assert (await call(client, sessionType="crypto"))["abandonment_rate"] == 1.0
            assert "days is '7'" in await refusal(client, days="7")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_over_http_a_page_of_another_site_is_turned_away(conninfo: str) -> None:
    with http_server(conninfo) as (_, url):
        port = urlsplit(url).port
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(
                "POST",
                "/mcp",
                request(1, "tools/list"),
                {
                    "Content-Type": "application/json",
                    "Accept": "application/json, text/event-stream",
                    **headers,
                },
            )
            assert connection.getresponse().status in {403, 421}
            connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])  # noqa: S104
def test_without_authentication_only_this_machine_may_connect(host: str) -> None:
    with pytest.raises(InvalidArgumentError, match="only this machine may connect"):
        serve_http(host, 0, settings=Settings(), insecure_local=True)


def test_a_taken_port_is_named(conninfo: str) -> None:
    with http_server(conninfo) as (_, url):
        port = str(urlsplit(url).port)
        local = ("mcp", "--http", "--insecure-local", "--port", port)
        with started(*local, conninfo=conninfo) as second:
            _, stderr = second.communicate(timeout=20)
    assert second.returncode == 1
    assert stderr == (
        f"Error: cannot listen on 127.0.0.1 port {port}: another process listens there; choose "
        "another port with --port, where 0 takes a free one\n"
    )
