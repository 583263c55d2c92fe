"""A database that does not answer, refuses, or has too many callers."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sessions.examples import USER, Connection, write
from sessions.gateway import Gateway

from fiml.database import Database
from fiml.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    PoolExhaustedError,
    SchemaVersionError,
)
from fiml.local_server import local_server, remove_local_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.migrations import migrate, uninstall
from fiml.sessions.models import QueryRecord
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

# How much later than its deadline a call may end on a machine that does other things too.
MARGIN = 3.0


@asynccontextmanager
async def reading(
    conninfo: str, *, timeout: float = 30.0, pool_size: int = 4
) -> AsyncIterator[SessionAnalytics]:
    settings = Settings(conninfo=conninfo, timeout_seconds=timeout, pool_size=pool_size)
    async with Database(settings) as database:
        yield SessionAnalytics(database)


@contextmanager
def takes_no_longer_than(seconds: float) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.time()
    yield
    assert loop.time() - before < seconds + MARGIN


@contextmanager
def locked(conninfo: str, table: str = "session_metrics") -> Iterator[None]:
    """Another program keeps everybody from the table."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(sql.SQL("lock table {}").format(sql.Identifier(table)))
        yield
        connection.rollback()


async def wait_for_activity(database: Connection, condition: str, wanted: int) -> None:
    """Until so many of the library's own connections are in the state."""
    while True:
        row = database.execute(
            "select count(*) from pg_stat_activity where datname = current_database() "
            f"and application_name = 'session-analytics' and {condition}"
        ).fetchone()
        if row == (wanted,):
            return
        await asyncio.sleep(0)


async def test_a_refused_connection_is_an_error_at_the_start(empty_database: str) -> None:
    async with Gateway(empty_database) as gateway:
        conninfo = make_conninfo(gateway.conninfo(), password="hunter2")
    store = SessionStore(Settings(conninfo=conninfo, timeout_seconds=5))
    with takes_no_longer_than(5), pytest.raises(DatabaseUnavailableError) as refusal:
        await store.initialize()
    assert "hunter2" not in str(refusal.value)


async def test_a_server_that_went_away_and_came_back_is_found_without_a_new_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    home = tmp_path / "server"
    try:
        with local_server(home, durable=False) as server:
            migrate(server.conninfo())
            gateway = Gateway(server.conninfo())
            await gateway.open()
            database = Database(
                Settings(conninfo=gateway.conninfo(), timeout_seconds=2, pool_size=3)
            )
            analytics = SessionAnalytics(database)
            await database.open()
            await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(6)))
            wrong = make_conninfo(gateway.conninfo(), password="hunter2")
            with pytest.raises(DatabaseUnavailableError) as refusal:
                await Database(Settings(conninfo=wrong, timeout_seconds=5)).open()
            assert "hunter2" not in str(refusal.value)
        await gateway.close()
        for _ in range(2):
            with takes_no_longer_than(2), pytest.raises(DatabaseUnavailableError) as refusal:
                await analytics.get_session_stats(USER)
            assert server.password not in str(refusal.value)
            assert USER not in str(refusal.value)
        with local_server(home, durable=False) as server:
            gateway.target = server.conninfo()
            await gateway.open()
            answers = []
            while not answers:
                try:
                    answers.append(await analytics.get_session_stats(USER))
                except DatabaseUnavailableError:
                    continue
            assert answers[0]["total_sessions"] == 0
            await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(6)))
            await database.close()
            await gateway.close()
    finally:
        remove_local_server(home)
    for secret in (server.password, "hunter2", USER):
        assert secret not in caplog.text


async def test_a_connection_that_the_server_ended_does_not_fail_a_read(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database)
    await asyncio.gather(*(analytics.get_session_stats() for _ in range(8)))
    database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name = 'session-analytics'"
    )
    await wait_for_activity(database, "true", 0)
    found = await asyncio.gather(*(analytics.get_session_stats() for _ in range(8)))
    assert {answer["total_sessions"] for answer in found} == {1}


async def test_a_server_that_accepts_and_never_answers_is_an_error_within_the_deadline() -> None:
    async with Gateway(None) as gateway:
        store = SessionStore(Settings(conninfo=gateway.conninfo(), timeout_seconds=0.5))
        with takes_no_longer_than(0.5), pytest.raises(DeadlineExceededError, match=r"of 0\.5 s"):
            await store.initialize()
        await store.shutdown()


async def test_a_network_that_falls_silent_is_an_error_within_the_deadline_and_may_come_back(
    migrated_database: str,
) -> None:
    async with (
        Gateway(migrated_database) as gateway,
        reading(gateway.conninfo(), timeout=2, pool_size=2) as analytics,
    ):
        await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(4)))
        gateway.fall_silent()
        with takes_no_longer_than(2):
            found = await asyncio.gather(
                *(analytics.get_session_stats(USER) for _ in range(4)), return_exceptions=True
            )
        assert {type(error) for error in found} <= {
            DeadlineExceededError,
            PoolExhaustedError,
            DatabaseUnavailableError,
        }
        assert DeadlineExceededError in {type(error) for error in found}
        assert not any(USER in str(error) for error in found)
        gateway.speak_again()
        answers = []
        while not answers:
            try:
                answers.append(await analytics.get_session_stats(USER))
            except DatabaseError:
                continue
        assert answers[0]["total_sessions"] == 0


@pytest.mark.parametrize("table", ["sessions", "session_metrics"])
async def test_a_table_that_somebody_locked_is_an_error_within_the_deadline(
    migrated_database: str, database: Connection, table: str
) -> None:
    async with reading(migrated_database, timeout=1, pool_size=2) as analytics:
        await analytics.get_session_stats(USER)
        with locked(migrated_database, table):
            for ask in (
                analytics.get_session_stats,
                lambda: analytics.get_session_stats(USER, include_meta=True),
            ):
                with takes_no_longer_than(1), pytest.raises(DeadlineExceededError) as refusal:
                    await ask()
                assert isinstance(refusal.value, TimeoutError)
                assert USER not in str(refusal.value)
            # Nothing goes on behind for an answer that nobody waits for.
            await wait_for_activity(database, "state <> 'idle'", 0)
        assert (await analytics.get_session_stats())["total_sessions"] == 0


async def test_five_hundred_callers_at_once_are_served_by_five_connections(
    migrated_database: str, database: Connection
) -> None:
    write(database, rows=4)
    async with reading(migrated_database, pool_size=5) as analytics:
        found = await asyncio.gather(
            *(analytics.get_session_stats(USER if n % 2 else None) for n in range(500))
        )
        assert {answer["total_sessions"] for answer in found} == {4}
        await come_to_rest(analytics)
        assert 1 <= own_connections(database) <= 5


async def test_five_hundred_callers_of_a_pool_that_is_exhausted_are_refused_in_time(
    migrated_database: str, database: Connection
) -> None:
    async with reading(migrated_database, timeout=2, pool_size=5) as analytics:
        await asyncio.gather(*(analytics.get_session_stats(USER) for _ in range(10)))
        with locked(migrated_database), takes_no_longer_than(2):
            found = await asyncio.gather(
                *(analytics.get_session_stats(USER) for _ in range(500)), return_exceptions=True
            )
        kinds = Counter(map(type, found))
        assert kinds.keys() == {DeadlineExceededError, PoolExhaustedError}
        assert kinds[DeadlineExceededError] >= 5
        refusal = next(error for error in found if isinstance(error, PoolExhaustedError))
        assert "all 5 connections" in str(refusal)
        assert "SESSION_ANALYTICS_POOL_SIZE" in str(refusal)
        await wait_for_activity(database, "state <> 'idle'", 0)
        answers: list[Any] = []
        while not answers:
            try:
                answers += await asyncio.gather(*(analytics.get_session_stats() for _ in range(50)))
            except DatabaseError:
                continue
        await come_to_rest(analytics)
        assert own_connections(database) <= 5


async def test_a_thousand_cancelled_calls_leave_no_transaction_and_no_connection_behind(
    migrated_database: str, database: Connection
) -> None:
    """Reads and writes, each cancelled somewhere in its middle."""
    write(database, rows=50)
    choose = Random()
    settings = Settings(conninfo=migrated_database, timeout_seconds=30, pool_size=5)
    async with SessionStore(settings) as store:
        analytics = SessionAnalytics(store)
        session = await store.create_session(["AAPL"], "equity", USER)
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            analytics.get_session_stats,
            lambda: analytics.get_session_stats(USER, include_meta=True),
            lambda: analytics.export_session_metrics("csv"),
            lambda: analytics.record_session_metrics(session),
            lambda: store.add_query(session.id, QueryRecord(query_type="price")),
        ]

        async def cancel() -> bool:
            call = asyncio.create_task(choose.choice(calls)())
            # Counted in turns of the loop, or in time: what has begun on the server, too.
            for _ in range(choose.choice([0, choose.randrange(60)])):
                await asyncio.sleep(0)
            await asyncio.sleep(choose.choice([0, choose.uniform(0, 0.01)]))
            return call.cancel()

        cancelled = 0
        for _ in range(50):
            cancelled += sum(await asyncio.gather(*(cancel() for _ in range(20))))
        assert cancelled > 300
        await wait_for_activity(database, "state <> 'idle'", 0)
        await come_to_rest(analytics)
        assert own_connections(database) <= 5
        assert database.execute(
            "select count(*) from pg_locks inner join pg_stat_activity using (pid) "
            "where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchone() == (0,)
        found = await asyncio.gather(*(analytics.get_session_stats() for _ in range(50)))
        assert {answer["total_sessions"] for answer in found} <= {50, 51}
        assert (await store.get_session(session.id)) is not None


def own_connections(database: Connection) -> int:
    row = database.execute(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'session-analytics'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def come_to_rest(analytics: SessionAnalytics) -> None:
    """Until the pool has back what it lent, and nothing goes on behind."""
    database = analytics._database
    assert database._pool is not None
    while True:
        stats = database._pool.get_stats()
        if (
            database._connections_in_use == 0
            and not database._behind
            and stats["pool_available"] == stats["pool_size"]
            and stats.get("requests_waiting", 0) == 0
        ):
            return
        await asyncio.sleep(0)


async def test_a_schema_that_vanishes_is_an_error_that_says_what_to_do(
    migrated_database: str,
) -> None:
    async with reading(migrated_database) as analytics:
        await analytics.get_session_stats()
        uninstall(migrated_database)
        for ask in (
            analytics.get_session_stats,
            lambda: analytics.get_session_stats(USER),
            lambda: analytics.export_session_metrics("csv"),
        ):
            with pytest.raises(SchemaVersionError, match="run `session-analytics migrate`"):
                await ask()
        migrate(migrated_database)
        assert (await analytics.get_session_stats())["total_sessions"] == 0


async def test_a_role_that_may_not_read_gets_an_error_and_no_zeros(
    migrated_database: str, database: Connection
) -> None:
    role = f"nobody_{uuid4().hex}"
    database.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(role)))
    try:
        async with reading(migrated_database) as analytics:

            async def as_nobody(connection: Any) -> None:
                await connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))

            await analytics._database.run(as_nobody)
            with pytest.raises(DatabaseError, match="permission denied"):
                await analytics.get_session_stats()
    finally:
        database.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
