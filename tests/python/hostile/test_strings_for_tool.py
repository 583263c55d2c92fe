"""Hostile strings through every argument of the MCP tool, and what no client sends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile.bystanders import OTHERS, Connection, add_users, unharmed
from hostile.strings import hostile_strings, is_storable
from mcp import Client

from fiml.mcp.server import TOOL_NAME, build_server
from fiml.settings import Settings

COMMAND = str(Path(sys.executable).with_name("session-analytics"))


def through_mcp(conninfo: str, database: Connection, texts: Sequence[str]) -> None:
    add_users(database, texts)

    async def ask() -> None:
        settings = Settings(conninfo=conninfo, timeout_seconds=60)
        async with Client(build_server(settings)) as client:

            async def call(**arguments: object) -> Any:
                return await client.call_tool(TOOL_NAME, arguments)

            for text in texts:
                if any(0xD800 <= ord(character) < 0xE000 for character in text):
                    continue  # No client can send it as text; see the next test.
                answer = await call(userId=text)
                if is_storable(text):
                    assert not answer.is_error
                    assert answer.structured_content["user_id"] == text
                    assert answer.structured_content["total_sessions"] == (
                        3 if text in OTHERS else 1
                    )
                else:
                    assert answer.is_error
                    assert answer.content[0].text.startswith("userId ")
                for arguments, begin in (
                    ({"sessionType": text}, "sessionType is "),
                    ({"days": text}, "days is "),
                    ({text: 1}, "Unknown argument "),
                ):
                    refusal = await call(**arguments)
                    assert refusal.is_error
                    told = refusal.content[0].text
                    assert told.startswith(begin)
                    assert told.isprintable()
                    assert len(told) <= 500

    with unharmed(database):
        asyncio.run(ask())


def test_hostile_strings_are_values_or_refused_by_the_tool(
    migrated_database: str, database: Connection
) -> None:
    through_mcp(migrated_database, database, hostile_strings(80))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_thousand_hostile_strings_are_values_or_refused_by_the_tool(
    migrated_database: str, database: Connection
) -> None:
    through_mcp(migrated_database, database, hostile_strings(2_000))


def test_what_no_client_sends_does_not_end_a_server_on_standard_input(
    migrated_database: str, database: Connection
) -> None:
    """Escapes of half a pair, bytes that are no text, lines that are no request."""
    call = (
        '{"jsonrpc": "2.0", "id": %s, "method": "tools/call", "params": '
        '{"name": "get-session-analytics", "arguments": {"userId": %s}}}'
    )
    hello = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
    )
    lines = [
        hello.encode(),
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        (call % (2, r'"\ud800"')).encode(),
        (call % (3, '"\udc80"')).encode(errors="surrogateescape"),
        (call % (4, r'"ann\u0000"')).encode(),
        b"",
        b"\x1b[2J",
        b"[" * 100_000,
        (call % (5, '"' + "x" * 1_000_000 + '"')).encode(),
        (call % (6, '"ann"')).encode(),
    ]
    with unharmed(database), _serving(migrated_database) as server:
        server.stdin.write(b"\n".join(lines) + b"\n")
        server.stdin.flush()
        answers: dict[int, Any] = {}
        while 6 not in answers:
            answer = json.loads(server.stdout.readline())
            if "result" in answer:
                answers[answer["id"]] = answer["result"]
        _, logged = server.communicate(timeout=20)
    for refused_id in (4, 5):
        assert answers[refused_id]["isError"]
        assert "userId" in answers[refused_id]["content"][0]["text"]
    assert answers[6]["structuredContent"]["total_sessions"] == 3
    assert server.returncode == 0
    assert b"Traceback" not in logged


@contextmanager
def _serving(conninfo: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [COMMAND, "mcp", "--no-fold"],
        env={**os.environ, "DATABASE_URL": conninfo},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
