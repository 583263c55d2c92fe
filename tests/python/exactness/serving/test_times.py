"""Where buckets, hours, days and spans of the serving layer meet, and where there is nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import DAY, HOUR, MICROSECOND, MIDNIGHT, NOON
from exactness.serving.layer import check, path_of
from exactness.world import World

SPAN = timedelta(days=8)
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
# The beginning of a span, a few days before noon.
SPAN_START = ORIGIN + (NOON - ORIGIN) // SPAN * SPAN

BOUNDARIES = {
    "bucket": NOON + timedelta(minutes=35),
    "half a bucket": NOON + timedelta(minutes=37, seconds=30),
    "hour": NOON + HOUR,
    "half an hour": NOON + timedelta(minutes=30),
    "half a day": NOON,
    "day": MIDNIGHT,
    "span": SPAN_START,
    "half a span": SPAN_START + SPAN / 2,
}
OFFSETS = (-MICROSECOND, timedelta(0), MICROSECOND)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_rows_and_windows_meet_to_the_microsecond_where_levels_meet(
    world: World, boundary: str
) -> None:
    world.clear()
    at = BOUNDARIES[boundary]
    for offset in OFFSETS:
        add(world, metrics(at + offset, assets=[str(offset)]))
        world.insert_session(0, archived(at + offset))
    # Others on both sides, so that there is something to go wrong with.
    for days in (-20, -9, -1, 1):
        add(world, metrics(at + DAY * days, user_id="bob"))
    for is_unseen in (False, True):
        if is_unseen:
            for offset in OFFSETS:
                add(world, metrics(at + offset, assets=["unseen"]))
        else:
            world.build()
            assert path_of(world, user_id="ann") == "serving"
        for offset in OFFSETS:
            for question in ({}, {"user_id": "ann"}, {"session_type": "equity"}):
                # It begins there, and ends there.
                found = check(world, as_of=at + offset + DAY, days=1, **question)
                assert found["archived_sessions"] == 2 - OFFSETS.index(offset) + 1
                check(world, as_of=at + offset, days=10, **question)


def test_every_distance_to_the_nearest_bucket_hour_day_and_span_adds_up(world: World) -> None:
    """Windows that begin at many places of a span, over rows at as many others."""
    world.clear()
    steps = [timedelta(minutes=437 * number, seconds=53 * number) for number in range(40)]
    for step in steps:
        add(world, metrics(SPAN_START + step, user_id="ann" if step < 5 * DAY else "bob"))
    world.build()
    for step in steps:
        check(world, as_of=SPAN_START + step + 20 * DAY, days=20)
        check(world, as_of=SPAN_START + step + 20 * DAY, days=20, user_id="ann")


def test_weeks_without_a_row_before_between_and_after_are_weeks_of_zeros(world: World) -> None:
    for days in (71, 70, 37, 36, 3):
        add(world, metrics(NOON - DAY * days, assets=[f"{days}"]))
        world.build()
    for days in (1, 2, 3, 4, 20, 36, 37, 38, 50, 70, 71, 90, 3650):
        for offset in (-MICROSECOND, MICROSECOND, timedelta(0), 4 * DAY):
            check(world, days=days, as_of=NOON + offset)
    # Long after the last row, and long before the first.
    for as_of in (NOON + 300 * DAY, NOON - 200 * DAY):
        assert check(world, as_of=as_of, days=90)["total_sessions"] == 0


def test_a_window_inside_of_the_newest_bucket_is_its_rows_alone(world: World) -> None:
    start = NOON + timedelta(minutes=5)
    seconds = [0, 1, 60, 149, 150, 151, 240, 299]
    for second in seconds:
        add(world, metrics(start + timedelta(seconds=second)))
    world.build()
    add(world, metrics(start + timedelta(seconds=90)))
    for second in (*seconds, 300):
        found = check(world, as_of=start + timedelta(seconds=second) + DAY, days=1)
        assert found["total_sessions"] == sum(s >= second for s in [*seconds, 90])
        check(world, as_of=start + timedelta(seconds=second), days=1)


def test_a_late_row_before_the_first_or_in_a_span_of_its_own_is_folded(world: World) -> None:
    """Each makes running rows that were not there, beside some that were."""
    world.clear()
    for days in (20, 2):
        add(world, metrics(NOON - DAY * days, user_id="ann"))
    world.build()
    for late in ([90], [60, 61], [45, 44, 33], [11, 100, 0], [300, 27]):
        for days in late:
            add(world, metrics(NOON - DAY * days, user_id="ann", assets=[f"{days}"]))
        for _ in range(2):
            for days in (1, 10, 19, 21, 30, 40, 50, 65, 95, 110, 400):
                check(world, days=days)
            world.check(as_of=NOON, days=65, user_id="ann")
            world.build()
            world.check_totals()
    world.check_incremental_equals_scratch()


def test_times_from_before_2000_and_after_2199_count_where_they_are_asked_for(
    world: World,
) -> None:
    years = (1970, 1999, 2000, 2010, 2199, 2200, 2201, 9000)
    for year in years:
        for day in (1, 6):
            add(world, metrics(datetime(year, 1, day, tzinfo=UTC)))
    world.build()
    world.check_totals()
    check(world, days=3650)
    for year in (*years, 2005, 2009, 2012):
        # Some of them begin before there are buckets; those the marts answer.
        for days in (2, 3650):
            world.check(days=days, as_of=datetime(year, 1, 2, tzinfo=UTC))
    add(world, metrics(datetime(9000, 1, 2, tzinfo=UTC)))
    check(world, days=3650)
    world.check_incremental_equals_scratch()
