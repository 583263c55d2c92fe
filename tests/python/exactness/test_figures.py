"""What figures are made of: odd names and counts, ties, sums, averages, who is active."""

from __future__ import annotations

from datetime import timedelta

import pytest
from exactness.examples import add, metrics, session
from exactness.moments import MICROSECOND, MIDNIGHT, NOON
from exactness.world import World


@pytest.mark.parametrize("is_built", [False, True])
def test_names_and_counts_out_of_range_are_set_aside(world: World, is_built: bool) -> None:
    names = ["", "x", "y" * 255, "z" * 256, None, 1, True, ["x"], {"x": 1}, "x"]
    counts = {"ok": 3, "": 3, "n" * 256: 3, "2.0": 2.0, "half": 2.5, "text": "2", "zero": 0}
    add(
        world,
        metrics(
            NOON - timedelta(days=2),
            assets=names,
            tags=names,
            query_types=counts | {"big": 2**31, "true": True, "minus": -1, "huge": 1e300},
        ),
    )
    if is_built:
        world.build()
    found = world.check(as_of=NOON)
    assert found["top_assets"] == [{"symbol": "x", "count": 2}, {"symbol": "y" * 255, "count": 1}]
    assert found["query_type_distribution"] == {"ok": 3, "2.0": 2}
    meta = world.read(as_of=NOON, include_meta=True)["meta"]
    assert meta["set_aside_values"] == 2 * 7 + 9


def test_ties_of_the_top_ten_are_ordered_by_bytes(world: World) -> None:
    names = ["b", "B", "a", "Z", "é", "ä", "_", "~", "1", "Ω", "😀", "aa"]
    add(world, metrics(NOON - timedelta(days=2), assets=names, tags=names))
    for _ in range(2):
        found = world.check(as_of=NOON)
        assert [row["symbol"] for row in found["top_assets"]] == sorted(
            names, key=lambda name: name.encode()
        )[:10]
        world.build()


def test_sums_that_would_overflow_32_bits_are_exact(world: World) -> None:
    for _ in range(3):
        add(
            world,
            metrics(
                NOON - timedelta(days=2),
                duration_seconds=2**31 - 1,
                total_queries=2**31 - 1,
                query_types={"price": 2**31 - 1},
            ),
        )
    for _ in range(2):
        assert world.check(as_of=NOON)["total_queries"] == 3 * (2**31 - 1)
        world.build()


@pytest.mark.parametrize(
    ("total_queries", "expected"),
    [([1] * 7 + [2], 1.13), ([0] * 7 + [1], 0.13), ([0] * 199 + [1], 0.01), ([0] * 201 + [1], 0.0)],
)
def test_averages_are_rounded_half_up(
    world: World, total_queries: list[int], expected: float
) -> None:
    for count in total_queries:
        add(world, metrics(NOON - timedelta(days=2), total_queries=count))
    assert world.check(as_of=NOON)["avg_queries_per_session"] == expected


def test_sessions_without_a_user_count_for_everybody_and_for_no_user(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2), user_id=None))
    for _ in range(2):
        assert world.check(as_of=NOON)["total_sessions"] == 1
        assert world.check(as_of=NOON, user_id="ann")["total_sessions"] == 0
        world.build()


def test_an_active_session_is_open_and_expires_after_the_instant_of_the_read(world: World) -> None:
    for expires_at in (NOON - MICROSECOND, NOON, NOON + MICROSECOND, None):
        world.insert_session(0, session(MIDNIGHT, expires_at, "crypto", user_id="ann"))
    assert world.check(as_of=NOON)["active_sessions"] == 1
    assert world.check(as_of=NOON, user_id="ann")["active_sessions"] == 1
    assert world.check(as_of=NOON, session_type="equity")["active_sessions"] == 0
