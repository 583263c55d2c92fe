"""Through a pooler that gives each transaction whatever connection is free: docs/operations.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from servers.pooler import PGBOUNCER, pooled
from warehouse.application import leave_expired_sessions, one, record_metrics

from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.models import QueryRecord
from fiml.sessions.store import SessionStore
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import reconcile

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed"),
]

QUESTIONS = [
    {"user_id": user_id, "session_type": session_type, "days": days}
    for user_id in (None, "user 1", "user 2")
    for session_type in (None, "equity")
    for days in (1, 7, 30)
]
CLIENTS = 6


@pytest.fixture
def through(migrated_database: str) -> Iterator[str]:
    """The database through a pooler of two connections, some of its rows not folded yet."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        record_metrics(connection, 300, days_ago=0)
        fold(connection, load_marts(Settings.from_environment()), "of most")
        record_metrics(connection, 30, days_ago=0)
        leave_expired_sessions(connection, 40)
    with pooled(migrated_database) as conninfo:
        yield conninfo


def settings(conninfo: str) -> Settings:
    return Settings(conninfo=conninfo, timeout_seconds=30, pool_size=4)


async def test_readers_that_share_connections_get_each_its_own_answer(
    migrated_database: str, through: str
) -> None:
    async with Database(settings(migrated_database)) as database:
        direct = SessionAnalytics(database)
        expected = [await direct.get_session_stats(**question) for question in QUESTIONS]

    async def read(number: int) -> None:
        async with Database(settings(through)) as database:
            analytics = SessionAnalytics(database)
            for turn in range(40):
                # Each client asks in an order of its own: names of statements would mean others.
                which = (turn * 7 + number * 5) % len(QUESTIONS)
                answer = await analytics.get_session_stats(**QUESTIONS[which], include_meta=True)
                assert answer.pop("meta")["as_of"].endswith("+00:00")
                assert answer == expected[which]

    await asyncio.gather(*(read(number) for number in range(CLIENTS)))


async def test_sessions_are_written_and_archived(migrated_database: str, through: str) -> None:
    async def write(number: int) -> None:
        async with SessionStore(settings(through)) as store:
            for _ in range(10):
                session = await store.create_session(["AAPL"], "equity", f"writer {number}")
                await store.add_query(session.id, QueryRecord(query_type="price"))
                assert await store.archive_session(session.id)

    await asyncio.gather(*(write(number) for number in range(CLIENTS)))
    async with Database(settings(through)) as database:
        assert (await archive_expired(database, batch_size=7)).archived == 40
        found = await SessionAnalytics(database).get_session_stats(days=2)
    assert found["archived_sessions"] == 40 + 10 * CLIENTS


def test_the_sessions_that_others_get_are_as_they_were(through: str) -> None:
    async def read() -> None:
        async with Database(settings(through)) as database:
            for _ in range(10):
                await SessionAnalytics(database).get_session_stats()

    asyncio.run(read())
    for _ in range(4):
        with psycopg.connect(through) as connection:
            for name, value in (
                ("statement_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("plan_cache_mode", "auto"),
            ):
                assert one(connection, "select current_setting(%s)", name) == value
            assert one(connection, "select count(*) from pg_prepared_statements") == 0


def test_builds_and_comparisons_work(through: str) -> None:
    assert build(settings(through)).succeeded
    assert reconcile(settings(through), all_days=True) == []


def test_what_a_session_would_have_to_hold_is_lost(through: str) -> None:
    """Why the process that folds and `migrate`, which hold locks of their session, go around it."""
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(make_conninfo(through, options="-c jit=off")),
    ):
        pytest.fail("start-up options went through")
    first, second = (psycopg.connect(through, autocommit=True) for _ in range(2))
    with first, second:
        lock = "select pg_try_advisory_lock(77)"
        assert one(first, lock)
        # The same session holds it, whoever asks.
        assert one(second, lock)
        first.execute("listen told")
        second.execute("notify told")
        assert list(first.notifies(timeout=0.5)) == []
