"""Sample sessions are written as an application would, until they are stopped."""

import asyncio
import random

import psycopg
import pytest

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


def test_no_other_database_than_the_demos_is_written_into() -> None:
    settings = Settings(conninfo="postgresql://someone:secret@127.0.0.1:1/shop")
    with (
        pytest.raises(SettingsError, match="into the database session_analytics_demo alone"),
        writing(settings),
    ):
        pass
