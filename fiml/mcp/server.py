"""An MCP server with the tool `get-session-analytics`, and stdio to serve it over."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from typing import Any, Final

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, Field

from fiml.errors import (
    AuthenticationError,
    AuthorizationError,
    InvalidArgumentError,
    LimitExceededError,
    SessionAnalyticsError,
)
from fiml.identity.access import Access
from fiml.identity.failures import explained
from fiml.mcp._bearer import identity_of
from fiml.mcp._schemas import INPUT_SCHEMA, NETWORK_INPUT_SCHEMA, OUTPUT_SCHEMA
from fiml.monitoring.logs import log_to_stderr
from fiml.monitoring.spans import spanning
from fiml.sessions.lazy_reader import LazyReader
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["TOOL_NAME", "build_server", "serve_stdio"]

TOOL_NAME: Final = "get-session-analytics"

# The names over MCP are the documented ones, not Python's.
_PARAMETERS: Final = {"userId": "user_id", "sessionType": "session_type", "days": "days"}
_ARGUMENTS: Final = {parameter: argument for argument, parameter in _PARAMETERS.items()}
_LONGEST_MESSAGE: Final = 500

_DESCRIPTION: Final = (
    "Usage figures of analysis sessions in the last `days` days: how many sessions, queries and "
    "archivals, average duration and queries, abandonment rate, the top assets and tags, and the "
    "breakdown by query type and session type; for one user, or for the whole platform. Exact at "
    "the moment of the call and read-only. A total of 0 means that nothing happened; failures are "
    "error results."
)

_logger = logging.getLogger(__name__)


class _AnalyticsTool(Tool):
    """The tool with its own reading of arguments.

    The library's is lenient where a wrong guess answers for everybody: it ignores arguments it does
    not know (`user_id`), and reads the text "null" as no user.
    """

    access: Access | None = Field(default=None, exclude=True)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,
    ) -> CallToolResult:
        reader: LazyReader = context.request_context.lifespan_context
        # Inside of what turns failures into texts: a span has their types.
        with _telling_failures(), spanning("mcp call", {"tool": TOOL_NAME}):
            if self.access is None:
                stats = await _read(reader, _parameters(arguments))
            else:
                # Of the message's own request: a token counts for nothing but what came with it.
                identity = identity_of(context.request_context.request)
                with self.access.call(identity, TOOL_NAME, arguments, _PARAMETERS) as call:
                    parameters = _parameters(arguments)
                    parameters["user_id"] = call.user_id(parameters.get("user_id"))
                    stats = await _read(reader, parameters)
        return CallToolResult(
            content=[TextContent(type="text", text=json.dumps(stats, ensure_ascii=False))],
            structured_content=stats,
        )


def build_server(
    settings: Settings | None = None,
    access: Access | None = None,
    reader: LazyReader | None = None,
) -> MCPServer[LazyReader]:
    """Make the server; nothing is connected before it runs.

    Where the database is down or not migrated, the server runs all the same, the tool says so, and
    answers as soon as the database does.

    Args:
        settings: read from the environment unless given.
        access: binds every call to the identity of its request, and refuses one without. None
            leaves `userId` an argument, for callers who are trusted with the database anyway.
        reader: of a server that has more faces than this one, which keeps it running.

    Raises:
        SettingsError: an environment variable does not parse.
    """
    known_settings = settings or Settings.from_environment().connecting_as(Purpose.READER)

    @asynccontextmanager
    async def lifespan(_server: MCPServer[LazyReader]) -> AsyncIterator[LazyReader]:
        if reader is not None:
            yield reader
            return
        async with LazyReader(known_settings).running() as own:
            yield own

    server = MCPServer(
        "session-analytics",
        title="Session analytics",
        version=version("session-analytics"),
        instructions=(
            f"Call {TOOL_NAME} for questions about how the platform, or one user, uses analysis "
            "sessions. Compare periods by calling it with different `days`."
        ),
        tools=[_tool(access)],
        lifespan=lifespan,
        log_level="WARNING",
        subscriptions=False,
    )
    # Its spans repeat what clients write: methods, names, ids, and the text of errors.
    server.middleware[:] = [
        each for each in server.middleware if not isinstance(each, OpenTelemetryMiddleware)
    ]
    return server


def serve_stdio(settings: Settings | None = None) -> None:
    """Serve one client over standard input and output until it closes its end.

    Standard output carries the protocol only; the log goes to standard error.

    Raises:
        SettingsError: an environment variable does not parse.
    """
    known_settings = settings or Settings.from_environment().connecting_as(Purpose.READER)
    log_to_stderr(known_settings.log_format)
    server = build_server(known_settings)
    with _interruptible_input():
        server.run("stdio")


@contextmanager
def _interruptible_input() -> Iterator[None]:
    """Let Ctrl-C be the end of standard input, and a KeyboardInterrupt after that.

    The server reads in a thread that nothing can interrupt but the end of what it reads.
    """
    given = os.dup(0)
    reading_end, writing_end = os.pipe()
    os.dup2(reading_end, 0)
    os.close(reading_end)
    is_interrupted = False

    def end_input() -> None:
        # Not closed: the number would be free for a connection while the copier still writes to it.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, writing_end)
        os.close(nowhere)

    def copy() -> None:
        with suppress(OSError):
            while chunk := os.read(given, 65_536):
                while chunk:
                    chunk = chunk[os.write(writing_end, chunk) :]
        end_input()

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        end_input()

    before = signal.signal(signal.SIGINT, interrupt)
    threading.Thread(target=copy, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if is_interrupted:
        raise KeyboardInterrupt


async def _read(reader: LazyReader, arguments: Mapping[str, Any]) -> dict[str, Any]:
    await reader.open()
    return await reader.analytics.get_session_stats(**arguments)


def _tool(access: Access | None) -> Tool:
    return _AnalyticsTool(
        access=access,
        fn=_read,
        name=TOOL_NAME,
        title="Get session analytics",
        description=_DESCRIPTION,
        parameters=INPUT_SCHEMA if access is None else NETWORK_INPUT_SCHEMA,
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=OUTPUT_SCHEMA),
        is_async=True,
        context_kwarg=None,
        annotations=ToolAnnotations(
            title="Get session analytics",
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )


def _parameters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(arguments.keys() - _PARAMETERS.keys())
    if unknown:
        raise InvalidArgumentError(
            f"Unknown argument {', '.join(map(repr, unknown))}; "
            f"the arguments are {', '.join(_PARAMETERS)}"
        )
    return {_PARAMETERS[name]: value for name, value in arguments.items()}


@contextmanager
def _telling_failures() -> Iterator[None]:
    """Turn every failure into a `ToolError` that says what to do."""
    try:
        yield
    except InvalidArgumentError as error:
        raise ToolError(_shortened(f"{_with_argument_names(str(error))}.")) from None
    except (AuthenticationError, AuthorizationError, LimitExceededError) as error:
        raise ToolError(f"{_sentence(str(error))}. No figure was computed.") from None
    except SessionAnalyticsError as error:
        _logger.warning("%s failed: %s", TOOL_NAME, error)
        raise ToolError(explained(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, the client learns nothing of it
        # Where, but not what: the text of an unknown exception may hold a user id.
        _logger.error(
            "%s failed unexpectedly with %s\n%s",
            TOOL_NAME,
            type(error).__name__,
            "".join(traceback.format_tb(error.__traceback__)),
        )
        raise ToolError(
            f"{TOOL_NAME} failed unexpectedly; nothing was computed. It was logged: tell whoever "
            "runs this server."
        ) from None


def _with_argument_names(message: str) -> str:
    name, separator, rest = message.partition(" ")
    return _ARGUMENTS.get(name, name) + separator + re.sub(r"\bNone\b", "null", rest)


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
