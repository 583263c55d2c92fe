"""A process of concurrent callers: `python -m benchmarks.workload`, as a child of a run.

The mix: half of the questions are about one user, 30 % about one type, 20 % about everybody, each
over 1, 7, 30 or 90 days. Users are drawn evenly: most of them have few sessions.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any, Final

from benchmarks.children import serve
from benchmarks.memory import kilobytes
from fiml.database import Connection, Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings

__all__ = ["peak_mb"]

_DAYS: Final = (1, 7, 30, 90)
_TYPES: Final = ("equity", "crypto", "portfolio", "comparative", "macro")


def _work(task: dict[str, Any], ended: Event) -> Mapping[str, Any]:
    return asyncio.run(_measure(task, ended))


async def _measure(task: Mapping[str, Any], ended: Event) -> Mapping[str, Any]:
    """Run each slice of the task when its line comes; the last result has them all."""
    async with Database(Settings(conninfo=task["conninfo"])) as database:
        users = await _users(database)
        slices = []
        for number, slice_ in enumerate(task["slices"]):
            call = _floor(database) if slice_["is_floor"] else _mix(database, users, number)
            taken = await _callers(call, slice_["clients"], slice_["seconds"])
            slices.append({**slice_, "taken": taken})
            if ended.is_set():
                break
    return {"slices": slices, "peak_mb": peak_mb()}


async def _users(database: Database) -> list[str]:
    async def read(connection: Connection) -> list[str]:
        cursor = await connection.execute(
            "select distinct user_id from session_metrics where user_id is not null order by 1"
        )
        return [row[0] for row in await cursor.fetchall()]

    return await database.run(read, timeout=600)


def _floor(database: Database) -> Callable[[], Awaitable[object]]:
    async def select(connection: Connection) -> object:
        cursor = await connection.execute("select 1")
        return await cursor.fetchone()

    return lambda: database.run(select, is_repeatable=True)


def _mix(database: Database, users: list[str], seed: int) -> Callable[[], Awaitable[object]]:
    analytics = SessionAnalytics(database)
    lots = random.Random(seed)  # noqa: S311 - a question is no secret

    def ask() -> Awaitable[object]:
        lot, days = lots.random(), lots.choice(_DAYS)
        if lot < 0.5:
            return analytics.get_session_stats(lots.choice(users), None, days)
        if lot < 0.8:
            return analytics.get_session_stats(None, lots.choice(_TYPES), days)
        return analytics.get_session_stats(None, None, days)

    return ask


async def _callers(
    call: Callable[[], Awaitable[object]], clients: int, seconds: float
) -> list[float]:
    taken: list[float] = []
    # Connections, plans and caches are there before the clock runs.
    await asyncio.gather(*(call() for _ in range(max(clients, 10))))
    until = perf_counter() + seconds

    async def caller() -> None:
        began = perf_counter()
        while began < until:
            await call()
            now = perf_counter()
            taken.append(now - began)
            began = now

    await asyncio.gather(*(caller() for _ in range(clients)))
    return taken


def peak_mb() -> float:
    """Most memory that this process has had."""
    # Where Linux tells it, of this program alone: getrusage's peak is that of its parent, too.
    told = kilobytes(Path("/proc/self/status")).get("VmHWM")
    if told is not None:
        return round(told / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)


if __name__ == "__main__":
    serve(_work)
