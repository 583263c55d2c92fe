"""Threads that change everything at once, and reads that are compared while they do."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from exactness.oracle import assert_same, expected_stats, read_source
from psycopg import errors

from fiml.sessions.reading import read_stats
from fiml.warehouse.fold import fold
from fiml.warehouse.project import Mart

USERS = [None, "ann", "bob", "cy"]
TYPES = ["equity", "crypto", "macro"]

# Every session has one asset, one tag, and its queries are all of known types: the figures of one
# answer depend on each other, so that an answer of two instants gives itself away.
INSERT = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags, abandoned
)
select
    gen_random_uuid(), %(user)s, %(type)s,
    now() - random() * interval '40 days' * (random() > 0.3)::integer, 60, 3,
    jsonb_build_array('A' || number % 5), '{"price": 2, "news": 1}',
    jsonb_build_array('t' || number % 4), number % 3 = 0
from generate_series(1, %(rows)s) as number
"""
START = """
insert into sessions (id, user_id, type, assets, tags, created_at, expires_at)
select
    gen_random_uuid(), %(user)s, %(type)s, '["A1"]', '["t1"]', now() - interval '2 days',
    now() + (random() - 0.7) * interval '1 day'
from generate_series(1, %(rows)s)
"""
UPDATE = """
update session_metrics
set session_type = %(type)s, total_queries = 5, query_type_summary = '{"price": 5}',
    created_at = now() - random() * interval '35 days'
where session_id in (select session_id from session_metrics order by random() limit %(rows)s)
"""
DELETE = """
delete from session_metrics
where session_id in (select session_id from session_metrics order by random() limit %(rows)s)
"""
ARCHIVE = "select analytics.archive_expired_sessions(%(rows)s)"
# Of somebody who comes back at once.
ERASE = "select analytics.erase_user('cy'), analytics.forget_erasure('cy')"
WRITES = {
    "insert": INSERT,
    "start": START,
    "update": UPDATE,
    "delete": DELETE,
    "archive": ARCHIVE,
    "erase": ERASE,
}

REFUSALS = (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable)


class Churn:
    """Threads that change things until they are told to end; what they did is counted."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, conninfo: str, step: Callable[[psycopg.Connection[Any]], str]) -> None:
        def work() -> None:
            try:
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    while not self._is_over.is_set():
                        try:
                            self.done[step(connection)] += 1
                        except REFUSALS:
                            connection.rollback()
            except BaseException as failure:  # noqa: BLE001 - raised in the test's thread
                self.failures.append(failure)

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def has_done(self, wanted: dict[str, int], times: int = 1) -> bool:
        return all(self.done[what] >= count * times for what, count in wanted.items())


def writing(seed: int) -> Callable[[psycopg.Connection[Any]], str]:
    choose = random.Random(seed)

    def step(connection: psycopg.Connection[Any]) -> str:
        what = choose.choice(list(WRITES))
        statement = WRITES[what]
        with connection.transaction():
            connection.execute(
                statement.replace(" % ", " %% "),
                {
                    "user": choose.choice(USERS),
                    "type": choose.choice(TYPES),
                    "rows": choose.randint(1, 12),
                },
            )
            if choose.random() < 0.3:
                # A transaction of two statements, seen as a whole or not at all.
                connection.execute(DELETE, {"rows": choose.randint(1, 8)})
        return what

    return step


def building(marts: Sequence[Mart]) -> Callable[[psycopg.Connection[Any]], str]:
    runs = iter(range(1_000_000))

    def step(connection: psycopg.Connection[Any]) -> str:
        run = next(runs)
        what = "rebuild" if run % 4 == 3 else "fold"
        if what == "rebuild":
            connection.execute("select analytics.request_rebuild()")
        fold(connection, marts, f"run {run}")
        connection.execute("select analytics.prune_changes('0')")
        return what

    return step


def is_of_one_instant(answer: dict[str, Any]) -> bool:
    """Whether the figures of an answer without a filter add up to each other."""
    total = answer["total_sessions"]
    return (
        sum(answer["session_type_breakdown"].values()) == total
        and sum(row["count"] for row in answer["top_assets"]) == total
        and sum(row["count"] for row in answer["popular_tags"]) == total
        and sum(answer["query_type_distribution"].values()) == answer["total_queries"]
    )


async def check_read(
    reader: psycopg.AsyncConnection[Any],
    oracle: psycopg.Connection[Any],
    question: dict[str, Any],
    meanwhile: Callable[[], None] = lambda: None,
    **how: Any,
) -> dict[str, Any]:
    """Read in a snapshot in which the oracle reads too, and `meanwhile` something is written.

    `how` goes to the reader alone.
    """

    def read_in(snapshot: str) -> dict[str, Any]:
        with oracle.transaction():
            oracle.execute("set transaction isolation level repeatable read, read only")
            oracle.execute(f"set transaction snapshot '{snapshot}'")
            return read_source(oracle)

    await reader.execute("begin isolation level repeatable read")
    try:
        cursor = await reader.execute("select pg_export_snapshot(), transaction_timestamp()")
        snapshot, as_of = await cursor.fetchone() or ("", None)
        meanwhile()
        found = await read_stats(reader, **question, **how)
        source = await asyncio.to_thread(read_in, snapshot)
    finally:
        await reader.rollback()
    assert_same(found, expected_stats(source, **question, as_of=as_of))
    return found
