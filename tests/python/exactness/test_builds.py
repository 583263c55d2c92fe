"""Builds: races with writers and each other, pruning, and a mart that none has made."""

from __future__ import annotations

from datetime import timedelta

from exactness.examples import add, metrics
from exactness.moments import MICROSECOND, NOON
from exactness.world import World


def test_a_mart_that_nobody_knows_of_is_answered_from_the_source(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    world.builder.execute("delete from analytics.watermarks where mart = 'daily_session_stats'")
    assert world.check(as_of=NOON)["total_sessions"] == 1


def test_the_last_day_that_there_is_stops_no_build(world: World) -> None:
    world.build()
    world.write(
        0,
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', '294276-12-31 12:00+00', 1)",
    )
    world.build()
    days = world.builder.execute(
        "select count(*) from analytics.days_to_reconcile('daily_session_stats', false)"
    ).fetchone()
    assert days == (1,)


def test_a_row_of_a_transaction_older_than_the_build_is_not_lost(world: World) -> None:
    world.write(1, "begin")
    world.insert_metrics(1, [metrics(NOON - timedelta(days=2))], upsert=False)
    add(world, metrics(NOON - timedelta(days=2), user_id="bob"))
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.write(1, "commit")
    assert world.check(as_of=NOON)["total_sessions"] == 2
    world.build()
    world.prune()
    assert world.check(as_of=NOON)["total_sessions"] == 2
    world.check_incremental_equals_scratch()


def test_an_older_window_that_comes_late_folds_nothing_twice(world: World) -> None:
    world.build()
    world.open_window()
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    for mart in range(len(world.marts)):
        world.fold_one(0, mart)
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.check_incremental_equals_scratch()


def test_pruning_keeps_what_one_mart_still_needs(world: World) -> None:
    world.build()
    add(world, metrics(NOON - timedelta(days=2)))
    world.open_window()
    for mart in range(len(world.marts) - 1):
        world.fold_one(0, mart)
    world.prune()
    world.check(as_of=NOON)
    world.build()
    world.check(as_of=NOON)
    world.check_incremental_equals_scratch()


def test_pruning_empties_the_feed_when_every_mart_has_folded_it(world: World) -> None:
    add(world, metrics(NOON))
    world.build()
    world.prune()
    assert world.builder.execute("select count(*) from analytics.session_changes").fetchone() == (
        0,
    )
    assert world.check(as_of=NOON + MICROSECOND)["total_sessions"] == 1


def test_a_rebuild_ends_at_its_window_while_writers_go_on(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    world.write(1, "begin")
    world.insert_metrics(1, [metrics(NOON - timedelta(days=1))], upsert=False)
    world.request_rebuild()
    world.open_window()
    add(world, metrics(NOON - timedelta(hours=30), user_id="bob"))
    world.write(1, "commit")
    for mart in range(len(world.marts)):
        world.fold_one(0, mart)
        assert world.check(as_of=NOON)["total_sessions"] == 3
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 3
    world.check_incremental_equals_scratch()
