"""Over HTTP, what a caller gets is bound to who the caller is: a real server, client and tokens."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import psycopg
import pytest
from identity.issuer import ATTACKS, AUDIENCE, ISSUER, Issuer
from identity.serving import serving
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from fiml.database import Database
from fiml.identity.access import Access
from fiml.identity.audit import AuditLog
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.identity.limits import Limits
from fiml.identity.tokens import TokenVerifier
from fiml.mcp.http import HTTP_PATH, build_http_app
from fiml.mcp.server import TOOL_NAME, build_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

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


@MODES
async def test_without_a_user_a_caller_gets_its_own_figures(
    settings: Settings, issuer: Issuer, mode: str
) -> None:
    async with Database(settings) as database:
        expected = await SessionAnalytics(database).get_session_stats("analyst_001", days=7)
    async with (
        server_of(settings) as url,
        client_of(url, issuer.token("analyst_001"), mode) as client,
    ):
        for arguments in ({}, {"userId": None}, {"userId": "analyst_001"}):
            assert await answer(client, days=7, **arguments) == expected
    assert expected["user_id"] == "analyst_001"
    assert expected["total_sessions"] == 1


async def test_the_scope_platform_makes_it_the_platforms(
    settings: Settings, issuer: Issuer
) -> None:
    token = issuer.token("analyst_001", PLATFORM_SCOPE)
    async with server_of(settings) as url, client_of(url, token) as client:
        stats = await answer(client)
        assert (stats["user_id"], stats["total_sessions"]) == (None, 3)
        own = await answer(client, userId="analyst_001")
        assert (own["user_id"], own["total_sessions"]) == ("analyst_001", 1)
        assert await refusal(client, userId="analyst_002") == DENIED


async def test_the_scope_users_gives_other_users_but_not_the_platform(
    settings: Settings, issuer: Issuer
) -> None:
    token = issuer.token("analyst_001", USERS_SCOPE)
    async with server_of(settings) as url, client_of(url, token) as client:
        assert (await answer(client, userId="analyst_002"))["total_sessions"] == 1
        assert (await answer(client, userId="unknown"))["total_sessions"] == 0
        assert (await answer(client))["user_id"] == "analyst_001"


async def test_a_caller_nobody_has_a_session_of_gets_zeros(
    settings: Settings, issuer: Issuer
) -> None:
    async with server_of(settings) as url, client_of(url, issuer.token("newcomer")) as client:
        stats = await answer(client)
    assert (stats["user_id"], stats["total_sessions"]) == ("newcomer", 0)


@MODES
async def test_a_refusal_is_the_same_for_users_who_exist_and_who_do_not(
    settings: Settings, issuer: Issuer, mode: str
) -> None:
    # Where the database is not there at all, whoever asked it could not have answered.
    for known in (settings, replace(settings, conninfo=NOWHERE, timeout_seconds=1)):
        async with (
            server_of(known) as url,
            client_of(url, issuer.token("analyst_001"), mode) as client,
        ):
            for other in ("analyst_002", "null", "nobody", "x" * 255):
                assert await refusal(client, userId=other) == DENIED


async def test_a_refusal_asks_the_database_nothing(settings: Settings, issuer: Issuer) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as other:
        async with (
            server_of(settings) as url,
            client_of(url, issuer.token("analyst_001")) as client,
        ):
            await answer(client)
            # Whatever reads a table now would wait for ever.
            with other.transaction():
                for table in (
                    "session_metrics",
                    "sessions",
                    "analytics.user_keys",
                    "analytics.session_changes",
                    "analytics.migrations",
                ):
                    other.execute(f"lock table {table} in access exclusive mode")
                for wanted in ("analyst_002", "nobody"):
                    assert await refusal(client, userId=wanted) == DENIED


@MODES
async def test_the_arguments_stay_as_strict_as_they_are(
    settings: Settings, issuer: Issuer, mode: str
) -> None:
    token = issuer.token("analyst_001", USERS_SCOPE)
    async with server_of(settings) as url, client_of(url, token, mode) as client:
        assert (await refusal(client, user_id="analyst_002")).startswith("Unknown argument")
        assert (await refusal(client, userId="")).startswith("userId has 0 characters")
        assert (await refusal(client, userId=["analyst_002"])).startswith("userId is of type list")
        assert (await refusal(client, days="7")).startswith("days is '7'")


async def test_the_tool_says_what_leaving_the_user_out_means(
    settings: Settings, issuer: Issuer
) -> None:
    async with server_of(settings) as url, client_of(url, issuer.token()) as client:
        (tool,) = (await client.list_tools()).tools
    description = tool.input_schema["properties"]["userId"]["description"]
    assert PLATFORM_SCOPE in description
    assert USERS_SCOPE in description


async def test_a_call_that_came_without_a_request_is_refused(settings: Settings) -> None:
    async with Client(build_server(settings, access_of(settings))) as client:
        told = await refusal(client)
    assert told == "This request was not authenticated. No figure was computed."


def described(response: httpx2.Response) -> tuple[int, str, str]:
    return response.status_code, response.headers.get("www-authenticate", ""), response.text


async def test_whatever_proves_no_identity_is_refused_alike(
    settings: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token()
    async with (
        server_of(replace(settings, conninfo=NOWHERE, timeout_seconds=1)) as url,
        httpx2.AsyncClient(headers=HEADERS) as http,
    ):
        nobody = described(await http.post(url, json=call_message()))
        assert nobody[0] == 401
        assert nobody[1].startswith('Bearer error="invalid_token"')
        with caplog.at_level(logging.INFO, "fiml.audit"):
            for name, (make, reason) in ATTACKS.items():
                caplog.clear()
                attack = make(issuer)
                headers = {"Authorization": f"Bearer {attack}"}
                response = await http.post(url, headers=headers, json=call_message())
                assert described(response) == nobody, name
                (line,) = [record.getMessage() for record in caplog.records]
                assert json.loads(line)["reason"] == reason, name
                assert attack not in line
        for headers in (
            {"Authorization": token},
            {"Authorization": f"Basic {token}"},
            {"Authorization": f"Token {token}"},
            {"Authorization": "Bearer"},
            {"X-Authorization": f"Bearer {token}"},
            {"Proxy-Authorization": f"Bearer {token}"},
            {"Cookie": f"access_token={token}; Authorization=Bearer {token}"},
        ):
            response = await http.post(url, headers=headers, json=call_message())
            assert described(response) == nobody, headers.keys()
        for parameter in ("access_token", "token", "bearer", "authorization"):
            response = await http.post(f"{url}?{parameter}={token}", json=call_message())
            assert described(response) == nobody, parameter
        message = {**call_message(), "access_token": token}
        assert described(await http.post(url, json=message)) == nobody


async def test_identities_interleaved_over_one_server_never_see_each_others_rows(
    settings: Settings, issuer: Issuer
) -> None:
    symbols = {f"user_{number:02}": f"SYMBOL{number:02}" for number in range(10)}
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        for user, symbol in symbols.items():
            connection.execute(
                "insert into session_metrics (session_id, user_id, session_type, created_at, "
                "duration_seconds, assets_analyzed) values "
                "(gen_random_uuid(), %s, 'equity', now() - interval '1 day', 1, %s::jsonb)",
                [user, json.dumps([symbol])],
            )

    def check(user: str, stats: dict[str, Any]) -> None:
        assert stats["user_id"] == user
        assert stats["top_assets"] == [{"symbol": symbols[user], "count": 1}]

    async def one(url: str, user: str, mode: str) -> None:
        async with client_of(url, issuer.token(user), mode) as client:
            others = [other for other in symbols if other != user]
            for other in others[:5]:
                check(user, await answer(client))
                assert await refusal(client, userId=other) == DENIED

    async with server_of(settings) as url:
        async with anyio.create_task_group() as group:
            for number, user in enumerate(symbols):
                group.start_soon(one, url, user, ("auto", "legacy")[number % 2])

        # One connection that changes hands, many requests of it under way.
        shuffled = random.Random(7).choices(list(symbols), k=100)
        limits = httpx2.Limits(max_connections=3)
        async with httpx2.AsyncClient(headers=HEADERS, limits=limits, timeout=60) as http:

            async def ask(user: str) -> None:
                headers = {"Authorization": f"Bearer {issuer.token(user)}"}
                check(user, answered(await http.post(url, headers=headers, json=call_message())))

            async with anyio.create_task_group() as group:
                for user in shuffled:
                    group.start_soon(ask, user)


async def test_there_is_no_session_that_could_be_stolen(settings: Settings, issuer: Issuer) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with server_of(settings) as url, httpx2.AsyncClient(headers=HEADERS, timeout=60) as http:
        first = {"Authorization": f"Bearer {issuer.token('analyst_001')}"}
        response = await http.post(url, headers=first, json=hello)
        assert response.status_code == 200
        assert "mcp-session-id" not in response.headers
        second = {
            "Authorization": f"Bearer {issuer.token('analyst_002')}",
            "Mcp-Session-Id": "0" * 32,
        }
        stats = answered(await http.post(url, headers=second, json=call_message()))
        assert stats["user_id"] == "analyst_002"
        for method in ("GET", "DELETE", "PUT"):
            assert (await http.request(method, url, headers=first)).status_code == 405


async def test_the_rate_is_each_identitys_own(settings: Settings, issuer: Issuer) -> None:
    async with (
        server_of(settings, per_minute=2, burst=3) as url,
        client_of(url, issuer.token("analyst_001")) as one,
        # Another token is no other identity.
        client_of(url, issuer.token("analyst_001", USERS_SCOPE, jti="2"), "legacy") as same,
        client_of(url, issuer.token("analyst_002")) as other,
    ):
        await answer(one)
        await answer(same)
        assert await refusal(one, userId="analyst_002") == DENIED
        for client in (one, same):
            told = await refusal(client)
            assert told == "Too many calls; try again in 30 s. No figure was computed."
        await answer(other)


async def test_calls_under_way_are_limited_for_each_identity(
    settings: Settings, issuer: Issuer
) -> None:
    async with (
        server_of(settings, concurrent=2) as url,
        client_of(url, issuer.token("analyst_001")) as one,
        client_of(url, issuer.token("analyst_002")) as other,
    ):
        await answer(one)
        with psycopg.connect(settings.conninfo) as holder:
            holder.execute("lock table session_metrics in access exclusive mode")
            held = [asyncio.create_task(answer(one)) for _ in range(2)]
            await until_waiting(settings.conninfo, 2)
            assert "under way, which is the most at once" in await refusal(one)
            others = asyncio.create_task(answer(other))
            await until_waiting(settings.conninfo, 3)
            holder.rollback()
        assert {(await task)["user_id"] for task in held} == {"analyst_001"}
        assert (await others)["user_id"] == "analyst_002"
        await answer(one)


async def test_a_caller_who_goes_away_gives_its_place_back(
    settings: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        server_of(settings, concurrent=1) as url,
        client_of(url, issuer.token("analyst_001")) as client,
    ):
        await answer(client)
        with (
            caplog.at_level(logging.INFO, "fiml.audit"),
            psycopg.connect(settings.conninfo) as holder,
        ):
            holder.execute("lock table session_metrics in access exclusive mode")
            held = asyncio.create_task(answer(client))
            await until_waiting(settings.conninfo, 1)
            held.cancel()
            deadline = time.monotonic() + 30
            while '"outcome": "cancelled"' not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0)
            await until_waiting(settings.conninfo, 0)
            holder.rollback()
        assert (await answer(client))["user_id"] == "analyst_001"


async def until_waiting(conninfo: str, count: int) -> None:
    deadline = time.monotonic() + 30
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        while True:
            cursor = await connection.execute(
                "select count(*) from pg_stat_activity "
                "where datname = current_database() and wait_event_type = 'Lock'"
            )
            if await cursor.fetchone() == (count,):
                return
            assert time.monotonic() < deadline


@pytest.fixture
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("fiml", "fiml.audit", "uvicorn", "starlette", "asyncio"):
            stack.enter_context(caplog.at_level(logging.DEBUG, name))
        yield


@pytest.mark.usefixtures("_everything_is_logged")
async def test_no_log_names_a_user_or_repeats_a_token(
    settings: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    good = issuer.token("analyst_001")
    admin = issuer.token("analyst_002", USERS_SCOPE, PLATFORM_SCOPE)
    expired = issuer.token("analyst_001", exp=1)
    async with (
        server_of(settings, burst=8) as url,
        httpx2.AsyncClient(headers=HEADERS, timeout=60) as http,
    ):
        for token, arguments in (
            (good, {}),
            (good, {"userId": "analyst_002"}),
            (good, {"analyst_002": good}),
            (good, {"userId": "analyst_002\0"}),
            (good, {"sessionType": "analyst_002"}),
            (admin, {"userId": "analyst_001"}),
            (admin, {}),
            (expired, {"userId": "analyst_001"}),
            (good[:-5], {}),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            await http.post(url, headers=headers, json=call_message(**arguments))
        with psycopg.connect(settings.conninfo, autocommit=True) as other:
            other.execute("drop table session_metrics cascade")
        headers = {"Authorization": f"Bearer {good}"}
        for _ in range(5):
            await http.post(url, headers=headers, json=call_message())
    lines = [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "fiml.audit"
    ]
    outcomes = [line["outcome"] for line in lines]
    assert outcomes == [
        "answered",
        "refused",
        "invalid",
        "invalid",
        "invalid",
        "answered",
        "answered",
        "unauthenticated",
        "unauthenticated",
        *["failed"] * 3,
        *["limited"] * 2,
    ]
    # Who was looked at is who is asking elsewhere.
    assert lines[5]["other"] == lines[0]["identity"]
    assert lines[5]["identity"] == lines[6]["identity"] != lines[0]["identity"]
    everything = "\n".join(
        f"{record.name} {record.getMessage()} {record.exc_text}" for record in caplog.records
    )
    assert "analyst_" not in everything
    for token in (good, admin, expired):
        for part in token.split("."):
            assert part[:20] not in everything


async def test_clients_are_told_where_a_token_comes_from(settings: Settings) -> None:
    async with server_of(settings) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        response = await http.post(url, json=call_message())
        place = "/.well-known/oauth-protected-resource/mcp"
        header = response.headers["www-authenticate"]
        assert f'resource_metadata="https://analytics.example{place}"' in header
        metadata = (await http.get(url.removesuffix(HTTP_PATH) + place)).json()
    assert metadata["resource"] == AUDIENCE
    assert metadata["authorization_servers"] == [ISSUER]
    assert metadata["scopes_supported"] == [PLATFORM_SCOPE, USERS_SCOPE]
    assert metadata["bearer_methods_supported"] == ["header"]


@pytest.mark.parametrize(
    ("audience", "issuer_name"), [("session-analytics", ISSUER), (AUDIENCE, ""), ("a", "b")]
)
async def test_without_urls_they_are_not(
    settings: Settings, audience: str, issuer_name: str
) -> None:
    known = replace(settings, auth_audience=audience, auth_issuer=issuer_name)
    async with server_of(known) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        response = await http.post(url, json=call_message())
        assert response.status_code == 401
        assert "resource_metadata" not in response.headers["www-authenticate"]


@MODES
async def test_a_request_under_another_name_is_turned_away_whatever_its_token(
    settings: Settings, issuer: Issuer, mode: str
) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}"}
    if mode == "auto":
        headers["Mcp-Protocol-Version"] = "2026-07-28"
    async with server_of(settings) as url, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        for given, statuses in (
            ({"Host": "evil.example"}, {421}),
            ({"Host": "evil.example:80"}, {421}),
            ({"Host": "127.0.0.1.evil.example:80"}, {421}),
            ({"Origin": "https://evil.example"}, {403}),
            ({"Origin": "null"}, {403}),
            ({"Host": "analytics.example", "Origin": "https://evil.example"}, {403}),
            ({"Host": "analytics.example"}, {200, 400}),
            (
                {"Host": "analytics.example", "Origin": "https://analytics.example"},
                {200, 400},
            ),
        ):
            response = await http.post(url, headers=given, json=call_message())
            assert response.status_code in statuses, given


@pytest.mark.parametrize(
    ("listening", "name", "status"),
    [
        ("192.0.2.1", "192.0.2.1:8765", 200),
        ("2001:db8::1", "[2001:db8::1]:8765", 200),
        ("127.0.0.1", "192.0.2.1:8765", 421),
        ("0.0.0.0", "0.0.0.0:8765", 421),  # noqa: S104
        ("::", "[::]:8765", 421),
        ("0.0.0.0", "127.0.0.1:8765", 200),  # noqa: S104
    ],
)
async def test_the_address_that_it_listens_on_is_a_name_of_it(
    settings: Settings, issuer: Issuer, listening: str, name: str, status: int
) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}", "Host": name}
    app = build_http_app(settings, access_of(settings), listening)
    async with serving(app) as origin, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        response = await http.post(origin + HTTP_PATH, json=call_message())
        assert response.status_code == status


async def test_a_message_that_is_too_large_is_not_read(settings: Settings, issuer: Issuer) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}"}
    async with server_of(settings) as url, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        message = call_message(userId="x" * 100_000)
        assert (await http.post(url, json=message)).status_code == 413
        assert answered(await http.post(url, json=call_message()))["user_id"] == "analyst_001"


async def test_probes_need_no_token_and_tell_nothing_else(settings: Settings) -> None:
    async with (
        serving(build_http_app(settings, access_of(settings))) as origin,
        httpx2.AsyncClient(base_url=origin, timeout=60) as http,
    ):
        assert (await http.get("/healthz")).json() == {"status": "alive"}
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        with psycopg.connect(settings.conninfo, autocommit=True) as connection:
            connection.execute("update analytics.migrations set version = version + 1000")
        while (ready := await http.get("/readyz")).status_code == 200:
            pass
        assert ready.json() == {
            "status": "not ready",
            "reason": "The database is not at the version of this package.",
        }
