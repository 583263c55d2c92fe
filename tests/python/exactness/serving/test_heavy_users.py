"""Users with totals of their own in the serving layer."""

from __future__ import annotations

import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import DAY, HOUR, NOON
from exactness.serving.layer import check, path_of, symbols
from exactness.world import World


def test_a_user_becomes_heavy_is_erased_and_comes_back(world: World) -> None:
    world.clear()
    world.build()
    for number in range(4):
        add(world, metrics(NOON - DAY * number - HOUR, assets=[f"{number}"]))
        world.insert_session(0, archived(NOON - DAY * number))
        for days in (1, 3, 30):
            world.check(days=days, as_of=NOON, user_id="ann")
        world.build()
        assert path_of(world, user_id="ann") == ("source" if number < 2 else "serving")
        for days in (1, 3, 30):
            world.check(days=days, as_of=NOON, user_id="ann")
    # With a type, and for others, there are no totals.
    assert path_of(world, user_id="ann", session_type="equity") == "source"
    world.check(as_of=NOON, user_id="ann", session_type="equity")
    world.write(0, "select analytics.erase_user('ann')")
    assert world.check(as_of=NOON, user_id="ann")["total_sessions"] == 0
    world.write(0, "select analytics.forget_erasure('ann')")
    for number in range(3):
        add(world, metrics(NOON - DAY * number - 2 * HOUR, assets=["again"]))
        world.check(as_of=NOON, user_id="ann")
    world.build()
    assert path_of(world, user_id="ann") == "serving"
    assert symbols(check(world, user_id="ann")) == [("again", 3)]
    world.check_incremental_equals_scratch()
    assert symbols(check(world, user_id="ann")) == [("again", 3)]


def test_who_was_found_heavy_is_asked_for_in_the_layer_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clear()
    for number in range(4):
        add(world, metrics(NOON - DAY * number - HOUR))
    world.build()
    assert path_of(world, user_id="ann") == "serving"

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for his own rows first")

    monkeypatch.setattr("fiml.sessions.reading.read_user_window", refuse)
    assert path_of(world, user_id="ann") == "serving"


def test_no_more_users_have_totals_than_are_allowed_and_one_who_goes_makes_room(
    world: World,
) -> None:
    world.clear()
    world.build()
    for user in ("ann", "bob", "cy"):
        for number in range(3):
            add(world, metrics(NOON - DAY * number - HOUR, user_id=user))
        world.build()
    paths = {user: path_of(world, user_id=user) for user in ("ann", "bob", "cy")}
    assert paths == {"ann": "serving", "bob": "serving", "cy": "source"}
    world.write(0, "select analytics.erase_user('ann')")
    add(world, metrics(NOON - HOUR, user_id="cy"))
    world.build()
    assert path_of(world, user_id="cy") == "serving"
    for user in ("ann", "bob", "cy"):
        world.check(as_of=NOON, user_id=user)
    world.check_incremental_equals_scratch()


def test_a_user_s_rows_that_move_to_another_user_or_time_move_in_both_totals(
    world: World,
) -> None:
    world.clear()
    rows = {
        user: [metrics(NOON - DAY * day - HOUR, user_id=user) for day in range(4)]
        for user in ("ann", "bob")
    }
    add(world, *rows["ann"], *rows["bob"])
    world.build()
    for statement, parameters in (
        ("update session_metrics set user_id = 'bob' where session_id = %s", [rows["ann"][0]]),
        ("update session_metrics set user_id = null where session_id = %s", [rows["bob"][1]]),
        ("update session_metrics set user_id = 'cy' where session_id = %s", [rows["bob"][2]]),
    ):
        world.write(0, statement, [parameters[0].session])
        for _ in range(2):
            for user in ("ann", "bob"):
                check(world, user_id=user)
            world.check(as_of=NOON, user_id="cy")
            world.build()
    world.write(0, "update session_metrics set created_at = created_at - interval '31 minutes'")
    for days in (1, 2, 30):
        check(world, user_id="ann", days=days)
    world.check_incremental_equals_scratch()


def test_who_becomes_heavy_while_writers_go_on_has_what_the_window_saw(world: World) -> None:
    world.clear()
    world.build()
    for number in range(3):
        add(world, metrics(NOON - DAY * number - HOUR))
    world.write(1, "begin")
    world.insert_metrics(1, [metrics(NOON - 2 * HOUR, assets=["in flight"])], upsert=False)
    world.open_window()
    add(world, metrics(NOON - 3 * HOUR, assets=["later"]))
    world.write(
        0, "update session_metrics set total_queries = 9 where created_at < %s", [NOON - DAY]
    )
    world.write(1, "commit")
    world.fold_one(0, sorted(world.marts).index("session_totals"))
    assert path_of(world, user_id="ann") == "serving"
    check(world, user_id="ann")
    check(world)
    world.build()
    check(world, user_id="ann")
    world.check_incremental_equals_scratch()


def test_a_history_is_added_once_however_many_older_folds_come_after(world: World) -> None:
    world.clear()
    world.build()
    add(world, *(metrics(NOON - DAY * number - HOUR) for number in range(3)))
    world.open_window()
    world.build()
    assert path_of(world, user_id="ann") == "serving"
    for _ in range(2):
        world.fold_one(0, sorted(world.marts).index("session_totals"))
        assert check(world, user_id="ann")["total_sessions"] == 3
    world.check_incremental_equals_scratch()
