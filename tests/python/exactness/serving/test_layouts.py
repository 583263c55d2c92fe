"""Other widths of the serving layer's buckets, hours and spans."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import DAY, HOUR, NOON
from exactness.oracle import assert_same
from exactness.serving.layer import check, path_of
from exactness.world import World

WIDTHS = [
    {"bucket_width": "1 minute", "hour_width": "10 minutes", "running_days": 1},
    {"bucket_width": "1 hour", "hour_width": "12 hours", "running_days": 64},
    {"bucket_width": "15 minutes", "running_days": 7, "heavy_users": 0},
]


def same_on_every_path(world: World, **question: Any) -> dict[str, Any]:
    """What is behind the horizon no oracle knows, but the paths know the same."""
    found = [world.read(path=path, **question) for path in ("serving", "marts", "source")]
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])
    return found[0]


@pytest.mark.parametrize("widths", WIDTHS)
def test_another_layout_says_the_same_before_and_behind_the_horizon(
    world: World, widths: dict[str, object]
) -> None:
    world.clear()
    for day in range(24):
        for hour in (-3, 2):
            at = NOON - DAY * day + HOUR * hour + timedelta(minutes=day)
            add(world, metrics(at, assets=[f"day {day}"]), metrics(at, user_id="bob"))
            world.insert_session(0, archived(at))
    world.build()
    world.builder.execute("select analytics.apply_retention(%s)", [NOON - 10 * DAY])
    questions = [
        {"days": days, "as_of": NOON + offset, "session_type": kind}
        for days in (1, 5, 10, 11, 17, 22, 30)
        for offset in (timedelta(0), HOUR, timedelta(minutes=3, seconds=1))
        for kind in (None, "equity")
    ]
    before = [same_on_every_path(world, **question) for question in questions]
    assert max(found["total_sessions"] for found in before) == 24 * 4 - 2
    world.set_layout(**widths)
    assert path_of(world) == "marts"
    assert [same_on_every_path(world, **question) for question in questions] == before
    for _ in range(2):
        world.build()
        world.check_totals()
        assert path_of(world) == "serving"
        assert [same_on_every_path(world, **question) for question in questions] == before
        world.request_rebuild()
    # From then on as ever.
    add(world, metrics(NOON - 9 * DAY), metrics(NOON - HOUR))
    for _ in range(2):
        for days in (1, 5, 9):
            check(world, days=days)
        found = same_on_every_path(world, days=30, as_of=NOON + 4 * HOUR)
        assert found["total_sessions"] == 24 * 4 + 2
        world.build()
    world.check_incremental_equals_scratch()
    same_on_every_path(world, days=30, as_of=NOON, user_id="ann")


@pytest.mark.parametrize(
    "widths",
    [
        {"bucket_width": "59 seconds"},
        {"bucket_width": "7 minutes"},
        {"bucket_width": "2 hours"},
        {"bucket_width": "5 minutes 0.5 seconds"},
        {"bucket_width": "-5 minutes"},
        {"hour_width": "5 hours"},
        {"hour_width": "1 day"},
        {"hour_width": "9 minutes", "bucket_width": "3 minutes"},
        {"running_days": 0},
        {"running_days": 65},
        {"heavy_users": -1},
        {"heavy_users": 1001},
        {"heavy_user_sessions": 0},
        {"keyed_names": -1},
        {"keyed_names": 4194303},
    ],
)
def test_widths_out_of_range_are_refused_and_change_nothing(
    world: World, widths: dict[str, object]
) -> None:
    add(world, metrics(NOON - DAY))
    world.build()
    before = world.builder.execute("select * from serving.layout").fetchall()
    with pytest.raises(psycopg.errors.CheckViolation):
        world.set_layout(**widths)
    assert world.builder.execute("select * from serving.layout").fetchall() == before
    check(world)
