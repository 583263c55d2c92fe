"""Calls of the MCP tool: a server that asks who is calling, its clients, and what they are told.

Not in the folder of their tests: `mcp` is the package that the client comes from.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from identity.serving import serving
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from fiml.identity.access import Access
from fiml.identity.audit import AuditLog
from fiml.identity.limits import Limits
from fiml.identity.tokens import TokenVerifier
from fiml.mcp.http import HTTP_PATH, build_http_app
from fiml.mcp.server import TOOL_NAME
from fiml.settings import Settings

__all__ = [
    "DENIED",
    "HEADERS",
    "MODES",
    "NOWHERE",
    "access_of",
    "answer",
    "answered",
    "call_message",
    "client_of",
    "refusal",
    "server_of",
    "text_of",
]

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"
DENIED = "Figures of other users need the scope analytics:users. No figure was computed."
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}


def access_of(settings: Settings, **limits: Any) -> Access:
    """The access of a server, with limits that do not depend on how fast the test is."""
    verifier = TokenVerifier.from_settings(settings)
    assert verifier is not None
    given = {"per_minute": 60, "burst": 1000, "concurrent": 100, "clock": lambda: 0.0, **limits}
    return Access(verifier, Limits(**given), AuditLog())


@asynccontextmanager
async def server_of(settings: Settings, **limits: Any) -> AsyncIterator[str]:
    async with serving(build_http_app(settings, access_of(settings, **limits))) as origin:
        yield origin + HTTP_PATH


@asynccontextmanager
async def client_of(url: str, token: str, mode: str = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def answer(client: Client, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(TOOL_NAME, arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def refusal(client: Client, **arguments: object) -> str:
    result = await client.call_tool(TOOL_NAME, arguments)
    assert result.is_error
    assert result.structured_content is None
    return text_of(result)


def call_message(**arguments: object) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": TOOL_NAME, "arguments": arguments},
    }


def answered(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    _, _, data = response.text.partition("data: ")
    content: dict[str, Any] = json.loads(data)["result"]["structuredContent"]
    return content
