"""Names in the serving layer: told in order, new, merged, and gone with their user."""

from __future__ import annotations

from typing import Any

import pytest
from exactness.examples import add, metrics
from exactness.moments import DAY, HOUR, NOON
from exactness.serving.layer import check, path_of, symbols
from exactness.world import World


@pytest.mark.parametrize("is_known", [True, False])
def test_of_hundreds_of_names_that_are_equally_frequent_the_first_by_bytes_are_told(
    world: World, is_known: bool
) -> None:
    names = [f"{prefix}{number}" for number in range(100) for prefix in "zZé"]
    in_order = sorted(names, key=str.encode)
    add(world, metrics(NOON - 3 * DAY, assets=names, tags=names[::-1]))
    world.build()
    if is_known:
        check(world)
    assert [name for name, _ in symbols(check(world))] == in_order[:10]
    # The last one comes first, and the first one falls behind, unseen and then folded.
    add(world, metrics(NOON - DAY, assets=in_order[-1:], tags=in_order[-1:]))
    assert symbols(check(world))[:2] == [(in_order[-1], 2), (in_order[0], 1)]
    world.build()
    assert symbols(check(world))[:2] == [(in_order[-1], 2), (in_order[0], 1)]
    gone = metrics(NOON - 2 * DAY, assets=in_order[:150], tags=names[:7])
    add(world, gone)
    world.build()
    check(world)
    world.write(0, "delete from session_metrics where session_id = %s", [gone.session])
    assert symbols(check(world))[1] == (in_order[0], 1)
    for name in in_order[:9]:
        add(world, metrics(NOON - 2 * DAY, assets=[name]))
    assert len({count for _, count in symbols(check(world))}) == 1
    check(world, days=1)
    world.check_incremental_equals_scratch()
    check(world)


def test_the_tenth_name_is_right_where_the_leaders_change_by_one(world: World) -> None:
    """Around the number of names that are kept in order, and the number that are told."""
    names = [f"n{number:03}" for number in range(66)]
    for count in (3, 2, 1):
        add(world, metrics(NOON - 2 * DAY, assets=names[: 22 * count] * 2, tags=names))
    # Of equally frequent ones it would be anybody's guess which are kept in order.
    add(world, metrics(NOON - 2 * DAY, assets=names[:64], tags=names[:64]))
    world.build()
    check(world)
    for name in (names[65], names[64], names[9], "new"):
        for _ in range(6):
            add(world, metrics(NOON - DAY, assets=[name], tags=[name]))
            check(world)
    world.build()
    check(world)
    world.write(0, "delete from session_metrics where created_at < %s", [NOON - DAY])
    assert len(symbols(check(world))) == 4


def test_a_new_name_that_is_at_once_the_most_frequent_is_found_unseen_and_folded(
    world: World,
) -> None:
    for number in range(20):
        add(world, metrics(NOON - 3 * DAY, assets=[f"old {number}"] * 3, user_id=None))
    world.build()
    questions: list[dict[str, Any]] = [{}, {"session_type": "equity"}, {"days": 1}]
    for question in questions:
        check(world, **question)
    fresh = metrics(
        NOON - HOUR,
        assets=["NEW"] * 50,
        tags=["new"] * 50,
        query_types={"brand-new": 2**31 - 1},
        user_id="zoe",
    )
    add(world, fresh)
    for _ in range(2):
        for question in questions:
            found = check(world, **question)
            assert symbols(found)[0] == ("NEW", 50)
            assert found["popular_tags"][0] == {"tag": "new", "count": 50}
            assert next(iter(found["query_type_distribution"])) == "brand-new"
        assert symbols(world.check(as_of=NOON, user_id="zoe"))[0] == ("NEW", 50)
        world.build()
    # As a reader that has just started sees it.
    world.cache.clear()
    assert symbols(check(world))[0] == ("NEW", 50)


@pytest.mark.parametrize("is_heavy", [False, True])
def test_names_that_vanish_with_an_erased_user_are_told_no_more(
    world: World, is_heavy: bool
) -> None:
    world.clear()
    for number in range(2 + 3 * is_heavy):
        add(
            world,
            metrics(
                NOON - DAY * number - HOUR,
                assets=["hers", f"hers {number}"],
                tags=["hers"],
                query_types={"hers": 7},
                session_type="macro",
            ),
        )
    add(world, metrics(NOON - 2 * DAY, user_id="bob"))
    world.build()
    assert symbols(check(world))[0][0] == "hers"
    assert (path_of(world, user_id="ann") == "serving") is is_heavy
    world.write(0, "select analytics.erase_user('ann')")
    for _ in range(2):
        found = check(world)
        assert symbols(found) == [("AAPL", 1)]
        assert "hers" not in str(found)
        assert check(world, session_type="macro")["total_sessions"] == 0
        assert world.check(as_of=NOON, user_id="ann")["total_sessions"] == 0
        world.build()
    assert not [row for row in world.rows()["session_totals"] if "hers" in row[4]]
    # Nothing of the user's own is left either.
    assert world.builder.execute(
        "select count(*) from serving.scopes where user_key is not null"
    ).fetchone() == (0,)
    assert world.builder.execute(
        "select count(*) from serving.session_totals "
        "where scope_id not in (select scope_id from serving.scopes)"
    ).fetchone() == (0,)
    world.check_incremental_equals_scratch()


def test_windows_with_names_that_have_no_key_are_read_from_the_marts(world: World) -> None:
    world.clear()
    world.set_layout(keyed_names=4)
    known: dict[str, Any] = {"assets": ["A"], "tags": ["a"], "query_types": {"price": 2}}
    add(world, metrics(NOON - 9 * DAY, **known))
    world.build()
    check(world)
    # Known names alone, beside them new ones in the tail, in the layer and in a large number.
    add(world, metrics(NOON - DAY, **known))
    late = [
        metrics(
            NOON - 3 * DAY,
            assets=["A", "B", "C"],
            tags=["b"],
            query_types={"news": 2**31 - 1},
            user_id=user,
        )
        for user in ("bob", "bob", "bob", *(f"user {number}" for number in range(200)))
    ]
    add(world, *late)
    assert check(world)["top_assets"][1:] == [
        {"symbol": "B", "count": 203},
        {"symbol": "C", "count": 203},
    ]
    world.build()
    world.check_totals()
    for _ in range(2):
        assert path_of(world) == "marts"
        assert path_of(world, user_id="bob") == "source"
        assert path_of(world, days=2) == "serving"
        assert symbols(world.check(as_of=NOON))[0] == ("A", 205)
        for session_type in (None, "equity", "macro"):
            world.check(as_of=NOON, session_type=session_type)
        world.check(as_of=NOON, user_id="bob")
        assert symbols(check(world, days=2)) == [("A", 1)]
        world.check_incremental_equals_scratch()
    # When they are gone, the layer knows all that is left.
    world.write(0, "delete from session_metrics where created_at = %s", [NOON - 3 * DAY])
    world.build()
    check(world)
    add(world, *late)
    world.set_layout(keyed_names=100)
    world.build()
    assert symbols(check(world))[0] == ("A", 205)
    assert path_of(world, user_id="bob") == "serving"


def test_thousands_of_names_in_one_session_are_merged_and_stay_exact(world: World) -> None:
    world.build()
    kept = []
    for number in range(6):
        names = [f"name {name}" for name in range(number * 700, number * 700 + 1500)]
        row = metrics(NOON - DAY * number - HOUR, assets=names, tags=names[::7])
        add(world, row)
        check(world)
        world.build()
        assert symbols(check(world))
        kept.append(row.session)
    world.check_totals()
    merged = world.builder.execute(
        "select count(*) from serving.session_totals "
        "where level = 'running' and starts_at = 'infinity' and cardinality(settled) > 2000"
    ).fetchone()
    assert merged is not None
    assert merged[0] > 0
    world.write(0, "delete from session_metrics where session_id <> %s", [kept[2]])
    check(world)
    world.build()
    assert symbols(check(world))[0] == ("name 1400", 1)
    world.check_incremental_equals_scratch()
    check(world)
