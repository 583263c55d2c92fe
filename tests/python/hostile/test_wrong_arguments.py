"""docs/errors.md, row by row: what a wrong argument is answered with.

The page is the data. Nothing here knows a message.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import httpx2
import pytest
from click.testing import CliRunner
from identity.issuer import AUDIENCE, ISSUER, Issuer
from identity.serving import serving
from mcp import Client
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fiml import errors
from fiml.cli import main
from fiml.identity.access import Access
from fiml.identity.authorization import PLATFORM_SCOPE
from fiml.mcp._schemas import INPUT_SCHEMA
from fiml.mcp.server import TOOL_NAME, build_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.maintenance import apply_retention, erase_user, erasure_receipt
from fiml.sessions.models import QueryRecord, Session
from fiml.sessions.store import SessionStore
from fiml.settings import SETTINGS, Settings
from fiml.web.app import build_app
from fiml.web.arguments import SERIES_PARAMETERS, STATS_PARAMETERS
from fiml.web.filters import PARAMETERS
from fiml.web.refusals import STATUSES

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).resolve().parents[3] / "docs" / "errors.md"
# Any text is a schedule, schema, role, folder or secret; that it is a wrong one turns out in use.
FREE_TEXT = {
    "SESSION_ANALYTICS_ALERTS_FILE",
    "SESSION_ANALYTICS_AUDIT_KEY_FILE",
    "SESSION_ANALYTICS_AUTH_AUDIENCE",
    "SESSION_ANALYTICS_AUTH_ISSUER",
    "SESSION_ANALYTICS_AUTH_JWKS_FILE",
    "SESSION_ANALYTICS_AUTH_SECRET",
    "SESSION_ANALYTICS_AUTH_SECRET_FILE",
    "SESSION_ANALYTICS_ROLE_PREFIX",
    "SESSION_ANALYTICS_SOURCE_SCHEMA",
    "SESSION_ANALYTICS_SCHEDULE",
    "SESSION_ANALYTICS_RECONCILE_SCHEDULE",
    "SESSION_ANALYTICS_REPORTS_SCHEDULE",
    "SESSION_ANALYTICS_BI_ROLE",
    "SESSION_ANALYTICS_PROJECT_DIR",
}
# Where the tool is served to is no part of what is asked.
SERVING = {(command, option) for command in ("mcp", "serve") for option in ("host", "port")}


def table(first_heading: str) -> list[list[str]]:
    """The cells of a table, without the marks of code."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {first_heading} |"))
    next(lines)
    return [list(_cells(line)) for line in iter(lambda: next(lines), "")]


def _cells(line: str) -> Iterator[str]:
    for cell in line.removeprefix("| ").removesuffix(" |").split(" | "):
        yield cell[1:-1] if cell.startswith("`") else cell


def table_of_library() -> list[list[str]]:
    return table("call | error | message")


def matches(message: str, told: str) -> bool:
    """Whether it is the message, in which an ellipsis stands for anything."""
    return re.fullmatch(".+".join(map(re.escape, message.split("…"))), told) is not None


@pytest.fixture
async def names(migrated_database: str) -> AsyncIterator[dict[str, Any]]:
    """What the calls on the page speak of."""
    async with SessionStore(Settings(conninfo=migrated_database, timeout_seconds=30)) as store:
        session = await store.create_session(["AAPL"], "equity", "ann")
        yield {
            "SessionAnalytics": SessionAnalytics,
            "SessionStore": SessionStore,
            "QueryRecord": QueryRecord,
            "Session": Session,
            "UUID": UUID,
            "LATER": session.created_at + timedelta(days=1),
            "analytics": SessionAnalytics(store),
            "store": store,
            "session": session,
            "query": QueryRecord(query_type="price"),
            "changed": _changed,
            "with_context": _with_context,
            "nested": _nested,
            "archive_expired": archive_expired,
            "apply_retention": apply_retention,
            "erase_user": erase_user,
            "erasure_receipt": erasure_receipt,
        }


async def _called(call: str, names: dict[str, Any]) -> None:
    answer = eval(call, names)  # noqa: S307 - the project's own page
    if inspect.isawaitable(answer):
        await answer


def _changed(session: Session, **fields: object) -> Session:
    # Past the checks of assignment, as an object of another program may be.
    return session.model_copy(update=fields)


def _with_context(session: Session, context: dict[Any, Any]) -> Session:
    copy = session.model_copy(deep=True)
    copy.state.context.update(context)
    return copy


def _nested(levels: int) -> list[Any]:
    outermost: list[Any] = []
    for _ in range(levels - 1):
        outermost = [outermost]
    return outermost


async def test_every_call_of_the_library_is_answered_as_the_page_says(
    names: dict[str, Any],
) -> None:
    rows = table_of_library()
    assert len(rows) > 50
    for call, error, message in rows:
        with pytest.raises(errors.InvalidArgumentError) as refusal:
            await _called(call, names)
        assert type(refusal.value) is getattr(errors, error), call
        assert matches(message, str(refusal.value)), (call, str(refusal.value))


async def test_every_object_is_refused_as_the_page_says(names: dict[str, Any]) -> None:
    rows = table("object")
    assert rows
    for call, expected in rows:
        with pytest.raises(ValidationError) as refusal:
            await _called(call, names)
        first = refusal.value.errors(include_input=False)[0]
        told = first["msg"].removeprefix("Value error, ")
        assert f"{'.'.join(map(str, first['loc']))} {told}" == expected, call


def test_every_command_is_answered_as_the_page_says(
    migrated_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = table("arguments of `session-analytics`")
    assert rows
    for arguments, exit_code, message in rows:
        result = CliRunner().invoke(
            main, shlex.split(arguments), input="", env={"DATABASE_URL": migrated_database}
        )
        assert result.exit_code == int(exit_code), arguments
        assert result.stdout == ""
        assert result.stderr.splitlines()[-1] == f"Error: {message}", arguments


async def test_every_call_of_the_tool_is_answered_as_the_page_says(migrated_database: str) -> None:
    rows = table("arguments | text")
    assert rows
    async with Client(build_server(Settings(conninfo=migrated_database))) as client:
        for arguments, text in rows:
            given = eval(arguments)  # noqa: S307 - the project's own page
            result = await client.call_tool(TOOL_NAME, given)
            assert result.is_error, arguments
            assert result.structured_content is None
            assert [part.text for part in result.content] == [text], arguments


def test_every_setting_is_refused_as_the_page_says() -> None:
    rows = table("variable")
    for assignment, message in rows:
        name, _, value = assignment.partition("=")
        with pytest.raises(errors.SettingsError) as refusal:
            Settings.from_environment({name: value})
        assert str(refusal.value) == message
    assert {row[0].partition("=")[0] for row in rows} == {
        setting.name for setting in SETTINGS
    } - FREE_TEXT


async def test_every_request_is_answered_as_the_page_says(migrated_database: str) -> None:
    rows = table("request | status")
    assert rows
    async with _serving(Settings(conninfo=migrated_database)) as origin, _client(origin) as http:
        for request, status, code, message in rows:
            response = await http.request(*request.split(" ", 1))
            assert response.status_code == int(status), request
            assert response.json() == {"error": {"code": code, "message": message}}, request


async def test_every_token_is_answered_as_the_page_says(
    migrated_database: str, tmp_path: Path
) -> None:
    rows = table("request | token")
    assert rows
    issuer = Issuer()
    guarded = Settings(
        conninfo=migrated_database,
        auth_jwks_file=issuer.write_jwks(tmp_path),
        auth_audience=AUDIENCE,
        auth_issuer=ISSUER,
    )
    tokens = {
        "none": "",
        "expired": issuer.token("ann", exp=1),
        "of ann": issuer.token("ann"),
        "of ann, analytics:platform": issuer.token("ann", PLATFORM_SCOPE),
    }
    async with _serving(guarded) as origin:
        for request, token, status, code, message in rows:
            async with _client(origin, tokens[token]) as http:
                response = await http.request(*request.split(" ", 1))
            assert response.status_code == int(status), request
            assert response.json() == {"error": {"code": code, "message": message}}, request


async def test_every_first_message_is_answered_as_the_page_says(migrated_database: str) -> None:
    rows = table("first message")
    assert rows
    async with _serving(Settings(conninfo=migrated_database)) as origin:
        for path in ("/api/live", "/live"):
            for first, code, reason in rows:
                async with connect(origin.replace("http", "ws") + path, proxy=None) as socket:
                    await socket.send(first)
                    with pytest.raises(ConnectionClosed) as closed:
                        await socket.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (int(code), reason)


async def test_every_address_is_answered_as_the_page_says(migrated_database: str) -> None:
    rows = table("address")
    assert rows
    async with _serving(Settings(conninfo=migrated_database)) as origin, _client(origin) as http:
        for address, status, message in rows:
            response = await http.get(address)
            assert response.status_code == int(status), address
            told = re.search(r'role="alert">\s*<h2>(.*?)</h2>', response.text, re.DOTALL)
            assert told is not None
            assert unescape(told[1]) == message, address
            # A failure is never a figure.
            assert "<data" not in response.text


def _serving(settings: Settings) -> AbstractAsyncContextManager[str]:
    return serving(build_app(settings, Access.from_settings(settings)), 0)


def _client(origin: str, token: str = "") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(base_url=origin, headers=headers, timeout=60)


# Nothing is left out ------------------------------------------------------------------------------


def _arguments() -> Iterator[tuple[str, str]]:
    """Every argument of every method, with how the page calls it."""
    called: dict[str, Callable[..., Any]] = {
        "SessionAnalytics(": SessionAnalytics.__init__,
        "SessionStore(": SessionStore.__init__,
        "archive_expired(": archive_expired,
        "apply_retention(": apply_retention,
        "erase_user(": erase_user,
        "analytics.stream_session_metrics(": SessionAnalytics.stream_session_metrics,
        "erasure_receipt(": erasure_receipt,
    }
    for variable, kind in (("analytics", SessionAnalytics), ("store", SessionStore)):
        for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
            if not name.startswith("_"):
                called[f"{variable}.{name}("] = method
    for call, function in called.items():
        for parameter in inspect.signature(function).parameters:
            is_given = parameter in {"self", "on_progress"} or (
                parameter == "database" and call[0].islower()
            )
            if not is_given:
                yield call, parameter


@pytest.mark.parametrize(("call", "argument"), list(_arguments()))
def test_every_argument_of_the_library_has_a_row(call: str, argument: str) -> None:
    assert any(row[0].startswith(call) and argument in row[2] for row in table_of_library()), (
        f"docs/errors.md says nothing of {argument} in {call}...)"
    )


def test_every_option_that_takes_a_value_has_a_row() -> None:
    told = [(shlex.split(row[0])[0], row[0]) for row in table("arguments of `session-analytics`")]
    for command in main.commands.values():
        for option in command.params:
            if not isinstance(option, click.Option) or option.is_flag:
                continue
            if (command.name, option.name) in SERVING:
                continue
            assert any(
                name == command.name and f" {option.opts[0]} " in f"{arguments} "
                for name, arguments in told
            ), (command.name, option.opts)


def test_every_argument_of_the_tool_has_a_row() -> None:
    told = [row[1].split()[0] for row in table("arguments | text")]
    assert set(told) == {*INPUT_SCHEMA["properties"], "Unknown"}


@pytest.mark.parametrize(
    ("heading", "address", "parameters"),
    [
        ("request | status", "GET /api/stats?", STATS_PARAMETERS),
        ("request | status", "GET /api/timeseries?", SERIES_PARAMETERS),
        ("address", "/?", PARAMETERS),
    ],
)
def test_every_parameter_has_a_row(heading: str, address: str, parameters: tuple[str, ...]) -> None:
    told = {row[-1].split()[0] for row in table(heading) if row[0].startswith(address)}
    assert set(parameters) <= told


def test_every_answer_that_a_request_can_be_to_blame_for_has_a_row() -> None:
    rows = [*table("request | status"), *((row[0], *row[2:]) for row in table("request | token"))]
    # The others are about how much there is, or about the server.
    assert {int(row[1]): row[2] for row in rows} == {
        status: code for status, (code, _) in STATUSES.items() if status < 429
    }


def test_no_message_repeats_a_user_id() -> None:
    for row in table_of_library():
        assert not re.search(r"\bann\b", row[2]), row[0]
        assert row[1] != "InvalidUserIdError" or "xxx" not in row[2], row[0]


def test_every_message_says_what_is_expected() -> None:
    for row in table_of_library():
        assert "expected " in row[2], row[0]
