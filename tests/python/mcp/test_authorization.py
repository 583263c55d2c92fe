"""Over HTTP, whose figures a caller gets: a real server, client and tokens."""

from dataclasses import replace

import psycopg
import pytest
from identity.issuer import Issuer
from identity.mcp_calls import (
    DENIED,
    MODES,
    NOWHERE,
    access_of,
    answer,
    client_of,
    refusal,
    server_of,
)
from mcp import Client

from fiml.database import Database
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.mcp.server import build_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


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
