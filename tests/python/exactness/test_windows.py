"""The edges of a window: what is inside, folded or not, and on which side of midnight."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import MICROSECOND, MIDNIGHT, NOON
from exactness.world import World


@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize(
    ("offset", "is_inside"),
    [
        (timedelta(days=-1) - MICROSECOND, False),
        (timedelta(days=-1), True),
        (timedelta(days=-1) + MICROSECOND, True),
        (-MICROSECOND, True),
        (timedelta(0), False),
        (MICROSECOND, False),
    ],
)
@pytest.mark.parametrize("as_of", [NOON, MIDNIGHT, MIDNIGHT + MICROSECOND, MIDNIGHT - MICROSECOND])
def test_a_window_begins_inclusive_and_ends_exclusive_to_the_microsecond(
    world: World, as_of: datetime, offset: timedelta, is_inside: bool, is_built: bool
) -> None:
    add(world, metrics(as_of + offset))
    world.insert_session(0, archived(as_of + offset))
    if is_built:
        world.build()
    for user_id in (None, "ann"):
        found = world.check(days=1, as_of=as_of, user_id=user_id)
        assert found["total_sessions"] == found["archived_sessions"] == int(is_inside)


def test_rows_around_every_midnight_of_a_window_are_counted_once(world: World) -> None:
    for day in range(-4, 2):
        for offset in (-MICROSECOND, timedelta(0), MICROSECOND):
            add(world, metrics(MIDNIGHT + timedelta(days=day) + offset))
    world.build()
    for day in range(-3, 2):
        for offset in (-MICROSECOND, timedelta(0), MICROSECOND, timedelta(hours=5)):
            for days in (1, 2, 3):
                world.check(days=days, as_of=MIDNIGHT + timedelta(days=day) + offset)


def test_a_row_at_the_first_midnight_that_no_mart_holds_yet_is_counted(world: World) -> None:
    world.build()
    add(world, metrics(MIDNIGHT - timedelta(days=1)))
    world.insert_session(0, archived(MIDNIGHT - timedelta(days=1)))
    assert world.check(days=1, as_of=MIDNIGHT)["total_sessions"] == 1
    assert world.check(days=2, as_of=NOON)["archived_sessions"] == 1


def test_rows_dated_in_the_future_are_outside_also_when_a_mart_holds_them(world: World) -> None:
    add(world, metrics(NOON + timedelta(hours=3)), metrics(NOON + timedelta(days=3)))
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 0
    assert world.check(as_of=NOON + timedelta(hours=4))["total_sessions"] == 1


def test_rows_dated_in_the_future_are_outside_also_while_no_mart_holds_them(world: World) -> None:
    world.build()
    add(world, metrics(NOON + timedelta(hours=3)), metrics(NOON - timedelta(days=2)))
    world.insert_session(0, archived(NOON + timedelta(hours=3)))
    assert world.check(as_of=NOON)["total_sessions"] == 1


def test_times_that_are_not_finite_are_in_no_window_and_stop_nothing(world: World) -> None:
    for at in ("infinity", "-infinity"):
        world.write(
            0,
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
            "values (gen_random_uuid(), 'equity', %s, 1)",
            [at],
        )
        world.write(
            0,
            "insert into sessions (id, type, is_archived, archived_at, expires_at) "
            "values (gen_random_uuid(), 'equity', true, %s, %s)",
            [at, at],
        )
    add(world, metrics(NOON - timedelta(days=2)))
    for _ in range(2):
        assert world.check(as_of=NOON, days=3650)["total_sessions"] == 1
        world.build()
    # Whoever adds up a whole mart gets what windows can have.
    assert world.writers[0].execute(
        "select sum(sessions) from marts.daily_session_stats"
    ).fetchone() == (1,)
    world.check_incremental_equals_scratch()
