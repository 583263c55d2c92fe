"""Time series where they could go wrong: each period on every path, equal to a naive scan."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from exactness.examples import add, archived, metrics, session
from exactness.moments import DAY, HOUR, MICROSECOND, MIDNIGHT, NOON
from exactness.world import World

from fiml.sessions.periods import Grain, Window
from fiml.sessions.questions import Name, NameKind

ATHENS, UTC_ZONE = ZoneInfo("Europe/Athens"), ZoneInfo("UTC")


def check(
    world: World, days: float, grain: Grain, zone: ZoneInfo = UTC_ZONE, **question: Any
) -> Any:
    until = question.pop("until", None)
    question = {
        "window": Window(timedelta(days=days), until=until),
        "grain": grain,
        "zone": zone,
        "as_of": NOON,
        **question,
    }
    periods = world.check_series(**question)["periods"]
    world.check_name_counts(*some_names(periods), **question)
    return periods


def some_names(periods: list[dict[str, Any]]) -> Iterator[Name]:
    """One of each kind that is in an answer, and one that is in none."""
    for kind, names in (
        (NameKind.ASSET, {row["symbol"] for period in periods for row in period["top_assets"]}),
        (NameKind.TAG, {row["tag"] for period in periods for row in period["popular_tags"]}),
        (
            NameKind.QUERY_TYPE,
            {name for period in periods for name in period["query_type_distribution"]},
        ),
    ):
        yield Name(kind, min(names, default="in none"))


def paths(world: World) -> set[str]:
    return {name.removeprefix("series of ") for name in world.paths}


@pytest.mark.parametrize("built", ["never", "before", "after"])
@pytest.mark.parametrize("zone", [UTC_ZONE, ATHENS, ZoneInfo("Asia/Kathmandu")])
def test_rows_around_every_boundary_are_counted_once(
    world: World, zone: ZoneInfo, built: str
) -> None:
    """Folded, and unseen: a microsecond beside it, and nearer to another bucket's start."""
    if built == "before":
        world.build()
    for day in range(-3, 1):
        local = datetime(2026, 3, 29, tzinfo=zone) + timedelta(days=day)
        for offset in (-MICROSECOND, timedelta(0), MICROSECOND, timedelta(minutes=4)):
            moment = local.astimezone(UTC) + offset
            add(world, metrics(moment, assets=[f"{day} {offset}"], user_id="bob"))
            world.insert_session(0, archived(moment, user_id="bob"))
    if built == "after":
        world.build()
    for user_id in (None, "bob"):
        for grain in (Grain.HOUR, Grain.DAY):
            periods = check(world, 3, grain, zone, user_id=user_id)
            assert sum(period["total_sessions"] for period in periods) == 12
        # Boundaries between those of the layer, and rows after the end.
        for minutes in (1, 2, 3):
            until = datetime(2026, 3, 28, tzinfo=zone).astimezone(UTC) + timedelta(minutes=minutes)
            periods = check(world, 2, Grain.DAY, zone, user_id=user_id, until=until)
            assert sum(period["total_sessions"] for period in periods) == 8
    if built != "never":
        assert paths(world) == {"serving", "marts", "source"}


def test_days_are_those_of_a_zone_that_changes_its_clocks(world: World) -> None:
    """Of 29 March 2026 Athens has 23 hours."""
    start = datetime(2026, 3, 28, tzinfo=ATHENS).astimezone(UTC)
    for hour in range(-3, 60):
        add(world, metrics(start + hour * HOUR))
    world.build()
    later = start + 80 * HOUR
    periods = check(world, 4, Grain.DAY, ATHENS, as_of=later)
    assert [period["total_sessions"] for period in periods][1:] == [24, 23, 13, 0]


@pytest.mark.parametrize("is_built", [False, True])
def test_a_late_row_and_one_that_is_corrected_move_between_periods(
    world: World, is_built: bool
) -> None:
    add(world, *(metrics(NOON - number * DAY) for number in range(1, 9)))
    world.build()
    late = metrics(NOON - 6 * DAY, assets=["late"])
    add(world, late)
    world.write(
        0,
        "update session_metrics set created_at = %s where session_id = %s",
        [NOON - 3 * DAY, late.session],
    )
    world.write(0, "delete from session_metrics where created_at = %s", [NOON - 5 * DAY])
    if is_built:
        world.build()
    counts = [period["total_sessions"] for period in check(world, 8, Grain.DAY)]
    assert counts == [1, 1, 1, 0, 1, 2, 1, 1, 0]


def test_names_are_told_for_each_period(world: World) -> None:
    """More of them than an answer names, and others in each."""
    for day in range(1, 4):
        for number in range(14):
            add(world, metrics(NOON - day * DAY, assets=[f"{day}{'xyz'[day - 1]}{number:02}"] * 2))
    world.build()
    for user_id in (None, "ann"):
        periods = check(world, 3, Grain.DAY, user_id=user_id)
        assert [len(period["top_assets"]) for period in periods] == [10, 10, 10, 0]
        # One that no answer has room for.
        last = Name(NameKind.ASSET, "2y13")
        counts = world.check_name_counts(
            last,
            window=Window(3 * DAY),
            grain=Grain.DAY,
            zone=UTC_ZONE,
            as_of=NOON,
            user_id=user_id,
        )
        assert counts[last] == [0, 2, 0, 0]


def test_only_the_open_period_knows_who_is_active(world: World) -> None:
    for built in ("never", "before", "after"):
        if built == "before":
            world.write(0, "delete from sessions")
        if built != "never":
            world.build()
        if built != "after":
            world.insert_session(0, session(NOON - HOUR, NOON + HOUR, user_id="ann"))
            world.insert_session(0, session(NOON - HOUR, NOON - MICROSECOND, user_id="ann"))
            world.insert_session(0, session(NOON - HOUR, None, user_id="ann"))
        for user_id in (None, "ann"):
            periods = check(world, 2, Grain.DAY, user_id=user_id)
            assert [period["active_sessions"] for period in periods] == [None, None, 1]
            periods = check(world, 2, Grain.DAY, user_id=user_id, until=NOON - MICROSECOND)
            assert {period["active_sessions"] for period in periods} == {None}


def test_a_heavy_user_s_periods_are_those_of_the_layer(world: World) -> None:
    # In which three sessions make a heavy user.
    world.clear()
    for number in range(12):
        add(world, metrics(NOON - number * 5 * HOUR, user_id="ann", assets=[f"n{number % 5}"]))
    world.build()
    before = world.paths["series of serving"]
    periods = check(world, 3, Grain.DAY, user_id="ann")
    assert world.paths["series of serving"] == before + 1
    assert sum(period["total_sessions"] for period in periods) == 11
    for until in (NOON - 7 * HOUR, NOON - 7 * HOUR - timedelta(minutes=31)):
        check(world, 1, Grain.HOUR, ATHENS, user_id="ann", until=until)


def test_several_boundaries_inside_of_one_bucket(world: World) -> None:
    for second in range(0, 600, 7):
        add(world, metrics(MIDNIGHT + timedelta(seconds=second)))
    world.build()
    for start, length in ((1, 3), (61, 120), (149, 2), (151, 1), (0, 300)):
        since = MIDNIGHT + timedelta(seconds=start)
        found = check(world, length / 86_400, Grain.DAY, until=since + timedelta(seconds=length))
        assert len(found) == 1


@pytest.mark.parametrize("grain", [Grain.DAY, Grain.WEEK, Grain.MONTH])
def test_whole_days_stay_when_their_rows_go(world: World, grain: Grain) -> None:
    for number in range(30):
        moment = NOON - number * 7 * HOUR
        add(world, metrics(moment, assets=[f"n{number % 7}"]))
        world.insert_session(0, archived(moment))
    world.build()
    question: dict[str, Any] = {
        "window": Window(None, MIDNIGHT - 8 * DAY),
        "grain": grain,
        "zone": UTC_ZONE,
        "as_of": NOON,
    }
    before = world.check_series(**question)["periods"]
    world.builder.execute("select analytics.apply_retention(%s)", [NOON - 4 * DAY])
    for path in ("serving", "marts", "source"):
        assert world.series(path=path, **question)["periods"] == before
    # A zone's days, and hours, are there after the horizon; behind it they begin with a day of UTC.
    for other, zone in ((Grain.HOUR, UTC_ZONE), (Grain.DAY, ATHENS)):
        answers = [
            world.series(path=path, **(question | {"grain": other, "zone": zone}))["periods"]
            for path in ("serving", "marts", "source")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert sum(period["total_sessions"] for period in answers[0]) == sum(
            period["total_sessions"] for period in before
        )
    check(world, 3, Grain.HOUR, ATHENS)
    # Of a user nothing is kept there.
    for path in ("serving", "source"):
        found = world.series(path=path, user_id="ann", **question)["periods"]
        assert sum(period["total_sessions"] for period in found) == 15


def test_windows_before_the_first_row_and_of_no_length(world: World) -> None:
    add(world, metrics(NOON - HOUR))
    world.build()
    assert (
        check(world, 1, Grain.HOUR, until=datetime(2015, 6, 1, tzinfo=UTC))[0]["total_sessions"]
        == 0
    )
    found = world.check_series(
        window=Window(None, NOON + HOUR), grain=Grain.DAY, zone=UTC_ZONE, as_of=NOON
    )
    assert found["periods"] == []
    # Older than the layer's spans.
    add(world, metrics(datetime(1999, 12, 31, 23, tzinfo=UTC)))
    world.build()
    assert (
        sum(
            period["total_sessions"]
            for period in check(world, 2, Grain.DAY, until=datetime(2000, 1, 1, 12, tzinfo=UTC))
        )
        == 1
    )
