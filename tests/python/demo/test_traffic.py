"""Sample sessions are written as an application would, until they are stopped."""

import asyncio
import random
import threading

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fiml.demo.history import USERS
from fiml.demo.traffic import write_sessions, writing
from fiml.errors import SettingsError
from fiml.settings import Settings


@pytest.mark.anyio
async def test_sessions_come_have_queries_and_end(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiml.demo.traffic._SECONDS_A_SESSION", 0.05)
    settings = Settings(conninfo=migrated_database, timeout_seconds=60)
    writer = asyncio.create_task(write_sessions(settings, random.Random(1), seconds_between=0.02))
    try:
        async with asyncio.timeout(60):
            with psycopg.connect(migrated_database, autocommit=True) as database:
                while True:
                    row = database.execute(
                        "select count(*), sum(total_queries), count(distinct session_type) "
                        "from session_metrics"
                    ).fetchone()
                    assert row is not None
                    if row[0] >= 20:
                        break
                    await asyncio.sleep(0.01)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    sessions, queries, kinds = row
    assert queries >= sessions
    assert kinds > 1


@pytest.mark.anyio
async def test_when_users_are_erased_the_sessions_of_others_go_on(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiml.demo.traffic._SECONDS_A_SESSION", 0.5)
    settings = Settings(conninfo=migrated_database, timeout_seconds=60)
    writer = asyncio.create_task(write_sessions(settings, random.Random(1), seconds_between=0.02))
    users = [f"analyst_{number + 1:03d}" for number in range(USERS)]
    try:
        async with asyncio.timeout(60):
            with psycopg.connect(migrated_database, autocommit=True) as database:

                async def wait_until(condition: str) -> None:
                    while database.execute(f"select {condition}").fetchone() != (True,):
                        assert not writer.done()
                        await asyncio.sleep(0.01)

                # In the middle of theirs, and before they would begin others.
                await wait_until(
                    "count(distinct user_id) >= 5 from sessions "
                    "where not is_archived and total_queries > 0"
                )
                database.execute(
                    "select analytics.erase_user(u) from unnest(%s::text[]) as u", [users]
                )
                row = database.execute("select now()::text").fetchone()
                assert row is not None
                # Of nobody who is known, and begun before and after.
                await wait_until(
                    f"count(*) >= 10 and bool_or(created_at > '{row[0]}') "
                    "and bool_and(user_id is null) from session_metrics"
                )
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_writing_that_came_to_an_end_is_put_away(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiml.demo.traffic.DATABASE", conninfo_to_dict(migrated_database)["dbname"])
    monkeypatch.setattr("fiml.demo.traffic.TYPE_WEIGHTS", {})
    before = set(threading.enumerate())
    with writing(Settings(conninfo=migrated_database)):
        (writer,) = set(threading.enumerate()) - before
        writer.join(30)
        assert not writer.is_alive()


def test_no_other_database_than_the_demos_is_written_into() -> None:
    settings = Settings(conninfo="postgresql://someone:secret@127.0.0.1:1/shop")
    with (
        pytest.raises(SettingsError, match="into the database session_analytics_demo alone"),
        writing(settings),
    ):
        pass
