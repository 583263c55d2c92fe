"""What is no JSON-RPC message is refused before the MCP library sees it."""

from __future__ import annotations

from typing import Final

from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp_types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["well_formed"]

_LARGEST_MESSAGE: Final = 65_536


def well_formed(app: ASGIApp) -> ASGIApp:
    """Let only JSON-RPC messages of up to 64 KiB through.

    The library would answer with what its own parser says, which names the parser, its version and
    its types.
    """

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        try:
            jsonrpc_message_adapter.validate_json(body, by_name=False)
        except ValidationError as error:
            is_json = error.errors()[0]["type"] != "json_invalid"
            code, message = (
                (INVALID_REQUEST, "Not a JSON-RPC message")
                if is_json
                else (PARSE_ERROR, "Not JSON")
            )
            refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
            await JSONResponse(refusal, status_code=400)(scope, receive, send)
            return
        is_replayed = False

        async def replay() -> Message:
            nonlocal is_replayed
            if is_replayed:
                return await receive()
            is_replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, replay, send)

    return RequestBodyLimitMiddleware(checked, _LARGEST_MESSAGE)
