"""Readers beside writers, archivers, folds and rebuilds; each answer is compared at its instant."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from time import monotonic
from typing import Any

import psycopg
from campaigns.campaign import Campaign
from campaigns.ground import Ground
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sessions.churn import Churn, building, check_read, is_of_one_instant, writing

from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.serving import ServingCache
from fiml.settings import Settings

__all__ = ["CONCURRENT"]

_SECONDS = 10.0
# Callers beyond share connections, as those of an application do.
_CONNECTIONS = 16
# Without these nothing was concurrent, and the round has shown nothing.
_LEAST = {"fold": 2, "rebuild": 1, "insert": 3, "update": 1, "delete": 1, "archive": 1}


def _read_meanwhile(ground: Ground, choose: Random) -> Counter[str]:
    readers = choose.choice([1, 8, 64, 256])
    churn = Churn()
    with ground.database() as conninfo:
        try:
            for _ in range(2):
                churn.start(conninfo, writing(choose.getrandbits(32)))
            churn.start(conninfo, building(ground.marts))
            until = monotonic() + _SECONDS

            def is_over() -> bool:
                return bool(churn.failures) or monotonic() > until

            reads = asyncio.run(_read_until(conninfo, readers, choose, is_over))
        finally:
            churn.end()
    assert churn.has_done(_LEAST), churn.done
    assert min(reads["compared"], reads["by an application"]) > 0, reads
    return Counter({f"{readers} readers": 1, **reads, **churn.done})


async def _read_until(
    conninfo: str, readers: int, choose: Random, is_over: Callable[[], bool]
) -> Counter[str]:
    reads: Counter[str] = Counter()
    cache = ServingCache()
    connections = min(readers, _CONNECTIONS)

    async def read(choose: Random) -> None:
        while not is_over():
            question = {
                "user_id": choose.choice([None, None, "ann", "bob"]),
                "session_type": choose.choice([None, None, "equity", "macro"]),
                "days": choose.choice([1, 7, 30, 3650]),
            }
            path = choose.choice([None, None, "marts", "source"])
            async with pool.connection() as reader:
                oracle = await asyncio.to_thread(oracles.getconn)
                try:
                    await check_read(reader, oracle, question, path=path, cache=cache)
                finally:
                    oracles.putconn(oracle)
            reads["compared"] += 1

    async def read_as_an_application() -> None:
        settings = Settings(conninfo=conninfo, timeout_seconds=30, pool_size=2)
        async with Database(settings) as database:
            analytics = SessionAnalytics(database)
            while not is_over():
                assert is_of_one_instant(await analytics.get_session_stats(days=30))
                reads["by an application"] += 1

    async with _pools(conninfo, connections) as (pool, oracles):
        await asyncio.gather(
            *(read(Random(choose.getrandbits(32))) for _ in range(readers)),
            read_as_an_application(),
        )
    return reads


@asynccontextmanager
async def _pools(
    conninfo: str, size: int
) -> AsyncIterator[
    tuple[
        AsyncConnectionPool[psycopg.AsyncConnection[Any]], ConnectionPool[psycopg.Connection[Any]]
    ]
]:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute("set plan_cache_mode = force_generic_plan")

    async with AsyncExitStack() as stack:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            conninfo,
            min_size=0,
            max_size=size,
            timeout=60,
            kwargs={"autocommit": True, "prepare_threshold": 0},
            configure=configure,
            open=False,
        )
        await stack.enter_async_context(pool)
        oracles: ConnectionPool[Any] = ConnectionPool(
            conninfo, min_size=0, max_size=size, timeout=60, kwargs={"autocommit": True}, open=False
        )
        stack.enter_context(oracles)
        yield pool, oracles


CONCURRENT = Campaign(
    name="readers-concurrent",
    disturbance=(
        "1, 8, 64 or 256 readers for 10 s beside writers, archivers, folds and rebuilds; "
        "each answer is compared in its own snapshot"
    ),
    play=_read_meanwhile,
    rounds=180,
    short=6,
)
