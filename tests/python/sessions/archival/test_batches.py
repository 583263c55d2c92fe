"""Each expired session is archived, once, in batches, some of them at a time."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sessions.archival.ground import add_expired, assert_metrics_follow_from_the_history, refuse
from sessions.examples import Connection, value
from sessions.writes import count_metrics_writes, metrics_writes

from fiml.database import Database
from fiml.errors import DeadlineExceededError, InvalidArgumentError
from fiml.sessions.archival import ArchivalResult, archive_expired
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


def assert_each_was_written_once(database: Connection, session_ids: list[UUID]) -> None:
    assert metrics_writes(database) == dict.fromkeys(session_ids, 1)


def wait_until(database: Connection, condition: str) -> None:
    for _ in range(3000):
        if value(database, f"select exists ({condition}) from pg_sleep(0.01)"):
            return
    pytest.fail(f"never came true: {condition}")


async def test_archiving_again_changes_nothing(store: SessionStore, database: Connection) -> None:
    session_ids = add_expired(database, 5)
    assert await store.archive_session(session_ids[0])
    assert not await store.archive_session(session_ids[0])
    assert await store.cleanup_expired_sessions() == 4
    before = database.execute("table session_metrics").fetchall()
    sessions = database.execute("select id, xmin::text from sessions").fetchall()
    assert await store.archive_expired_sessions() == 0
    assert not await store.archive_session(session_ids[1])
    assert database.execute("table session_metrics").fetchall() == before
    assert database.execute("select id, xmin::text from sessions").fetchall() == sessions


async def test_open_sessions_and_those_without_an_expiry_stay_open(
    store: SessionStore, database: Connection
) -> None:
    session = await store.create_session([], "equity")
    database.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    assert await store.archive_expired_sessions() == 0
    stored = await store.get_session(session.id)
    assert stored is not None
    assert not stored.is_archived


async def test_archiving_one_session_from_many_sides_archives_it_once(
    store: SessionStore, database: Connection
) -> None:
    count_metrics_writes(database)
    session_ids = add_expired(database, 1)
    outcomes = await asyncio.gather(
        *(store.archive_session(session_ids[0]) for _ in range(8)),
        *(store.archive_expired_sessions() for _ in range(4)),
    )
    assert sum(map(int, outcomes)) == 1
    assert_each_was_written_once(database, session_ids)


async def test_progress_is_told_by_batch(settings: Settings, database: Connection) -> None:
    session_ids = add_expired(database, 25)
    refuse(database, session_ids[3], "raise 'no'")
    seen: list[ArchivalResult] = []
    async with Database(replace(settings, archive_connections=1)) as archiver:
        result = await archive_expired(archiver, batch_size=10, on_progress=seen.append)
    assert result == ArchivalResult(archived=24, quarantined=1)
    assert seen == [ArchivalResult(9, 1), ArchivalResult(19, 1), ArchivalResult(24, 1)]


async def test_the_size_of_a_batch_comes_from_the_settings(
    migrated_database: str, database: Connection
) -> None:
    add_expired(database, 5)
    seen: list[ArchivalResult] = []
    settings = Settings(
        conninfo=migrated_database,
        timeout_seconds=30,
        archive_batch_size=2,
        archive_connections=1,
    )
    async with Database(settings) as archiver:
        await archive_expired(archiver, on_progress=seen.append)
    assert [result.archived for result in seen] == [2, 4, 5]


async def test_as_many_batches_are_archived_at_once_as_the_settings_say(
    settings: Settings, database: Connection
) -> None:
    count_metrics_writes(database)
    session_ids = add_expired(database, 40)
    # The first two batches wait here, each in the middle.
    for number in (3, 13):
        refuse(database, session_ids[number], "perform pg_advisory_xact_lock_shared(1)")
    waiting = "(select count(*) from pg_stat_activity where wait_event_type = 'Lock') = 2"
    with psycopg.connect(settings.conninfo, autocommit=True) as gate:
        gate.execute("select pg_advisory_lock(1)")
        async with Database(replace(settings, archive_connections=2)) as archiver:
            archival = asyncio.create_task(archive_expired(archiver, batch_size=10))
            await asyncio.to_thread(wait_until, database, f"select where {waiting}")
            gate.execute("select pg_advisory_unlock(1)")
            assert (await archival).archived == 40
    assert_each_was_written_once(database, session_ids)


async def test_a_batch_that_fails_ends_the_archival_and_leaves_the_others_whole(
    settings: Settings, database: Connection
) -> None:
    add_expired(database, 40)
    told: list[ArchivalResult] = []

    def fail(result: ArchivalResult) -> None:
        told.append(result)
        raise LookupError

    async with Database(replace(settings, archive_connections=2)) as archiver:
        with pytest.raises(LookupError):
            await archive_expired(archiver, batch_size=10, on_progress=fail)
    archived = value(database, "select count(*) from sessions where is_archived")
    assert archived == max(result.archived for result in told) in (10, 20)
    assert_metrics_follow_from_the_history(database)


@pytest.mark.parametrize("batch_size", [0, -1, 1_000_001, True, 2.0, "10"])
async def test_the_size_of_a_batch_is_a_whole_number(batch_size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="batch_size"):
        await archive_expired(Database(Settings()), batch_size=batch_size)


async def test_a_batch_may_take_longer_than_a_call(
    migrated_database: str, database: Connection
) -> None:
    session_ids = add_expired(database, 2)
    refuse(database, session_ids[0], "perform pg_sleep(1)")
    settings = Settings(conninfo=migrated_database, timeout_seconds=0.5)
    async with Database(settings) as archiver:
        assert (await archive_expired(archiver)).archived == 2

        async def sleep(connection: psycopg.AsyncConnection[Any]) -> None:
            await connection.execute("select pg_sleep(1)")

        with pytest.raises(DeadlineExceededError):
            await archiver.run(sleep, timeout=30)
