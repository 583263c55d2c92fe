"""JSON nested as deeply as PostgreSQL holds at all: one level more, anywhere later, is too much."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from exactness.moments import NOON
from exactness.world import World

from fiml.errors import DatabaseError
from fiml.sessions.models import QueryRecord
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

NAMES = '["AAPL", {}]'
COUNTS = '{{"price": 2, "deep": {}}}'
HISTORY = '[{{"query_type": "price"}}, {}]'


@pytest.fixture
def deepest(world: World) -> str:
    """Arrays in each other, such that a level more around them is the last one that is stored."""

    def is_stored(levels: int) -> bool:
        try:
            world.writers[0].execute("select %s::jsonb", ["[" * levels + "]" * levels])
        except psycopg.errors.StatementTooComplex:
            return False
        return True

    stored, refused = 1_000, 1_000_000
    while refused - stored > 1:
        middle = (stored + refused) // 2
        stored, refused = (middle, refused) if is_stored(middle) else (stored, middle)
    return "[" * (stored - 1) + "]" * (stored - 1)


def add_metrics(world: World, **columns: str) -> None:
    given = {"user_id": "ann", "created_at": "2026-03-29 10:00+00", **columns}
    world.writers[0].execute(
        f"insert into session_metrics (session_id, session_type, duration_seconds, "
        f"{', '.join(given)}) values (gen_random_uuid(), 'equity', 1{', %s' * len(given)})",
        list(given.values()),
    )


def add_session(world: World, **columns: str) -> UUID:
    given = {"id": str(uuid4()), "type": "equity", "expires_at": "2026-03-01", **columns}
    world.writers[0].execute(
        f"insert into sessions ({', '.join(given)}) values (%s{', %s' * (len(given) - 1)})",
        list(given.values()),
    )
    return UUID(given["id"])


def test_it_is_read_beside_the_others_on_every_path(world: World, deepest: str) -> None:
    world.build()
    for column, around in (
        ("assets_analyzed", NAMES),
        ("tags", NAMES),
        ("query_type_summary", COUNTS),
    ):
        add_metrics(world, **{column: around.format(deepest)})
        add_metrics(world)
    for user_id in (None, "ann"):
        found = world.check(as_of=NOON, user_id=user_id)
        assert found["total_sessions"] == 6
        assert found["top_assets"] == [{"symbol": "AAPL", "count": 1}]
        assert found["query_type_distribution"] == {"price": 2}
    world.check_incremental_equals_scratch()
    world.check(as_of=NOON)


def test_a_session_that_holds_it_is_read_and_archived(world: World, deepest: str) -> None:
    open_id = add_session(world, query_history=HISTORY.format(deepest), expires_at="2999-01-01")
    add_session(
        world,
        assets=NAMES.format(deepest),
        tags=NAMES.format(deepest),
        query_history=HISTORY.format(deepest),
    )

    async def use() -> None:
        async with SessionStore(Settings(conninfo=world.conninfo, timeout_seconds=60)) as store:
            session = await store.get_session(open_id)
            assert session is not None
            assert session.state.history.total_queries == 1
            # PostgreSQL cannot put such a history together again: no reason to try it again.
            with pytest.raises(DatabaseError, match="refused: stack depth") as refusal:
                await store.add_query(open_id, QueryRecord(query_type="news"))
            assert type(refusal.value) is DatabaseError
            assert await store.archive_expired_sessions() == 1

    asyncio.run(use())
    assert _quarantined(world) == []


def test_one_that_cannot_be_archived_is_set_aside_and_the_batch_goes_on(
    world: World, deepest: str
) -> None:
    world.writers[0].execute(
        "alter table session_metrics add constraint no_ann check (user_id <> 'ann')"
    )
    add_session(world, user_id="ann", assets=NAMES.format(deepest))
    add_session(world, user_id="ann")
    add_session(world, user_id="bob")
    row = world.builder.execute("select * from analytics.archive_expired_sessions(10)").fetchone()
    assert row == (1, 2)
    # What does not fit a row with it is not kept; why it was set aside is.
    assert sorted(_quarantined(world)) == [("archival", False), ("archival", True)]


def test_one_that_comes_behind_the_horizon_is_set_aside(world: World, deepest: str) -> None:
    world.builder.execute("update analytics.settings set horizon = '2026-03-30'")
    add_metrics(world, assets_analyzed=NAMES.format(deepest))
    add_session(
        world, assets=NAMES.format(deepest), is_archived="true", archived_at="2026-03-29 10:00+00"
    )
    assert sorted(_quarantined(world)) == [("late archival", False), ("metrics", False)]


def _quarantined(world: World) -> list[tuple[Any, ...]]:
    return world.builder.execute(
        "select fact, source_row is not null from analytics.quarantine"
    ).fetchall()
