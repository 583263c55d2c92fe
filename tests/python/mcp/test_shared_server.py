"""Many callers of one server over HTTP: rows, rate and places are each one's own."""

import asyncio
import json
import logging
import random
import time
from typing import Any

import anyio
import httpx2
import psycopg
import pytest
from identity.issuer import Issuer
from identity.mcp_calls import (
    DENIED,
    HEADERS,
    answer,
    answered,
    call_message,
    client_of,
    refusal,
    server_of,
)

from fiml.identity.authorization import USERS_SCOPE
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


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
