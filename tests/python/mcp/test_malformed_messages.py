"""Messages that no client would send: the server refuses them, says nothing of itself, and goes on.

The cases come from a seed, so that a failure comes again.
"""

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from identity.issuer import AUDIENCE, Issuer

from fiml.mcp.server import TOOL_NAME

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
MESSAGES = 300
INTERNALS = re.compile(
    rb'Traceback|File "|site-packages|/fiml/|\.py\b|psycopg|pydantic|postgresql:|select '
    rb"|0x[0-9a-f]{8}"
)

VALID: tuple[dict[str, Any], ...] = (
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {
            "name": TOOL_NAME,
            "arguments": {"userId": "analyst_001", "sessionType": "equity", "days": 7},
            "_meta": {"progressToken": 1},
        },
    },
    {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"cursor": None}},
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"roots": {"listChanged": True}},
            "clientInfo": {"name": "test", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "id": "7", "method": "ping"},
    {"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": "file:///etc/x"}},
    {"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": "x"}},
    {"jsonrpc": "2.0", "id": 7, "method": "completion/complete", "params": {"ref": {}}},
    {"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": {}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}},
    {"jsonrpc": "2.0", "id": 7, "result": {}},
    {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "x"}},
)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0.5,
    2**70,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "\0",
    "\u202e",
    "x" * 5000,
    "../../etc/passwd",
    "'; drop table sessions; --",
    "{}",
    [],
    {},
    [[[[[[]]]]]],
    {"": {"": {}}},
    {"__proto__": 1, "constructor": 2},
)
WHOLE = (
    b"",
    b" ",
    b"null",
    b"true",
    b"7",
    b'""',
    b"[]",
    b"{}",
    b"[{}]",
    b"{",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b"9" * 50_000,
    b'{"jsonrpc": "2.0"}',
    b'{"jsonrpc": "2.0", "id": null, "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}',
    b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
    b"GET / HTTP/1.1\r\n\r\n",
)


def malformed(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    yield from WHOLE
    for _ in range(MESSAGES):
        message = json.loads(json.dumps(chance.choice(VALID)))
        if chance.random() < 0.6:
            for _ in range(chance.randint(1, 3)):
                _replace_somewhere(chance, message)
            yield json.dumps(message, ensure_ascii=chance.random() < 0.5).encode()
        else:
            yield _with_bytes_changed(chance, json.dumps(message).encode())


def _replace_somewhere(chance: random.Random, message: dict[str, Any]) -> None:
    place = message
    while True:
        key = chance.choice(list(place))
        if isinstance(place[key], dict) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        match chance.randrange(3):
            case 0:
                del place[key]
                place.setdefault("x", 1)
            case 1:
                place[chance.choice(["", "x", "userId", "_meta", "id", "\0"])] = deepcopy(
                    chance.choice(ODD)
                )
            case _:
                place[key] = deepcopy(chance.choice(ODD))
        return


def _with_bytes_changed(chance: random.Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 10)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 5))
            case _:
                changed[at:at] = changed[at : at + 20]
        if not changed:
            break
    return bytes(changed)


@contextmanager
def started(*arguments: str, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [COMMAND, "mcp", "--no-fold", *arguments],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Drained:
    """What a process writes to standard error, read all the time so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.lines: list[bytes] = []
        assert process.stderr is not None
        self._thread = threading.Thread(target=self.lines.extend, args=[process.stderr])
        self._thread.start()

    def join(self) -> list[bytes]:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.lines


def test_over_stdio(conninfo: str) -> None:
    call = {
        "jsonrpc": "2.0",
        "method": "tools/call",
        "params": {"name": TOOL_NAME, "arguments": {}},
    }
    hello = {**VALID[2], "id": "hello"}
    with started(env={"DATABASE_URL": conninfo}) as process:
        errors = Drained(process)
        assert process.stdin is not None
        assert process.stdout is not None

        def answer_to(request_id: str, message: bytes) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(message)
            process.stdin.flush()
            for line in process.stdout:
                assert not INTERNALS.search(line), line
                answer: dict[str, Any] = json.loads(line)
                assert answer["jsonrpc"] == "2.0"
                if answer.get("id") == request_id:
                    return answer
            raise AssertionError("the server ended")

        initialized = b'\n{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'
        assert "result" in answer_to("hello", json.dumps(hello).encode() + initialized)
        for number, message in enumerate(malformed(1)):
            # Every one is followed by a call: what it answers to the first comes before or with it.
            last = json.dumps({**call, "id": f"call {number}"}).encode()
            answer = answer_to(f"call {number}", message + b"\n" + last + b"\n")
            assert answer["result"]["structuredContent"]["total_sessions"] == 3, message
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        logged = b"".join(errors.join())
    assert b"analyst_001" not in logged


@pytest.fixture
def auth(issuer: Issuer, tmp_path: Path, conninfo: str) -> dict[str, str]:
    return {
        "DATABASE_URL": conninfo,
        "SESSION_ANALYTICS_AUTH_JWKS_FILE": str(issuer.write_jwks(tmp_path)),
        "SESSION_ANALYTICS_AUTH_AUDIENCE": AUDIENCE,
        "SESSION_ANALYTICS_CALLS_BURST": "1000",
        "SESSION_ANALYTICS_CALLS_PER_MINUTE": "1000000",
    }


def url_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line.startswith("Serving MCP on http://127.0.0.1:"), line
    return line.split()[3].removesuffix(";")


@pytest.mark.parametrize("version", ["", "2025-06-18", "2026-07-28", "1999-01-01"])
def test_over_http(issuer: Issuer, auth: dict[str, str], version: str) -> None:
    token = issuer.token("analyst_001")
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    call = {**VALID[0], "params": {"name": TOOL_NAME, "arguments": {}}}
    with started("--http", "--port", "0", env=auth) as process:
        url = url_of(process)
        errors = Drained(process)
        with httpx2.Client(headers=headers, timeout=60) as http:
            for message in malformed(2):
                response = http.post(
                    url,
                    content=message,
                    headers={"Mcp-Protocol-Version": version} if version else {},
                )
                assert response.status_code < 500, message
                assert not INTERNALS.search(response.content), (message, response.content)
            answer = http.post(url, json=call)
            assert b'"user_id":"analyst_001"' in answer.content
        assert process.poll() is None
        process.terminate()
        logged = b"".join(errors.join())
    assert b"analyst_001" not in logged
    assert token.encode() not in logged


def test_what_is_no_http(issuer: Issuer, auth: dict[str, str]) -> None:
    token = issuer.token("analyst_001")
    chance = random.Random(3)
    request = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        "Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    ).encode()
    cases = [
        b"\r\n" * 100,
        b"\x16\x03\x01\x02\x00\x01",
        chance.randbytes(5000),
        request.replace(b"Content-Length: 2", b"Content-Length: -2"),
        request.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 9"),
        request.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        request.replace(b"Bearer ", b"Bearer \x80\xff"),
        request.replace(b"Bearer ", b"Bearer " + b"x" * 300_000),
        request.replace(b"/mcp", b"/mcp?" + b"x" * 300_000),
        request.replace(b"/mcp", b"/%2e%2e/mcp"),
        *(_with_bytes_changed(chance, request) for _ in range(100)),
    ]
    with started("--http", "--port", "0", env=auth) as process:
        url = url_of(process)
        port = urlsplit(url).port
        errors = Drained(process)
        for case in cases:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                received = bytearray()
                try:
                    connection.sendall(case)
                    connection.shutdown(socket.SHUT_WR)
                    while chunk := connection.recv(65_536):
                        received += chunk
                except OSError:
                    # It need not read to the end of what it refuses.
                    pass
            assert not INTERNALS.search(received), case
            assert b" 500 " not in received.partition(b"\r\n")[0], case
        answer = httpx2.post(url, headers={"Authorization": f"Bearer {token}"}, content=b"{}")
        assert answer.status_code < 500
        process.terminate()
        logged = b"".join(errors.join())
    assert token.encode() not in logged
    assert b"analyst_001" not in logged
