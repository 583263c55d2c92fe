"""A dump that was restored, in the same cluster and another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from exactness.examples import add, metrics
from exactness.moments import NOON
from exactness.world import World


@pytest.fixture
def restored(world: World, copy_database: Callable[[], World]) -> World:
    add(world, metrics(NOON - timedelta(days=2)), metrics(NOON - timedelta(days=40)))
    world.build()
    add(world, metrics(NOON - timedelta(days=2)))
    return copy_database()


def test_after_a_dump_and_restore_answers_are_exact_at_once_and_after_the_next_build(
    restored: World,
) -> None:
    assert restored.check(as_of=NOON)["total_sessions"] == 2
    for _ in range(40):
        add(restored, metrics(NOON - timedelta(days=1)))
    assert restored.check(as_of=NOON)["total_sessions"] == 42
    restored.build()
    assert restored.check(as_of=NOON)["total_sessions"] == 42
    states = restored.builder.execute("select watermark from analytics.mart_states").fetchall()
    assert all(row[0] is not None for row in states)
    restored.check_incremental_equals_scratch()
