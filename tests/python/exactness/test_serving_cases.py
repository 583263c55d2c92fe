"""The serving layer where it could go wrong, each case on every path that can answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from exactness.examples import add, archived, metrics, session
from exactness.histories import METRICS
from exactness.moments import DAY, HOUR, MICROSECOND, MIDNIGHT, NOON
from exactness.oracle import assert_same, expected_stats, read_source
from exactness.test_random_histories import COMMON
from exactness.world import Metrics, World
from exactness.world.totals import heavy_users, of_scopes
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from fiml.sessions.serving import ServingCache
from fiml.warehouse.fold import fold_mart, fold_statements

SPAN = timedelta(days=8)
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
# The beginning of a span, a few days before noon.
SPAN_START = ORIGIN + (NOON - ORIGIN) // SPAN * SPAN


def check(world: World, **question: Any) -> dict[str, Any]:
    """Compare every path, of which the serving layer has to be one."""
    before = world.paths["serving"]
    found = world.check(**({"as_of": NOON} | question))
    assert world.paths["serving"] == before + 1, question
    return found


def symbols(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(row["symbol"], row["count"]) for row in found["top_assets"]]


def path_of(world: World, **question: Any) -> str:
    meta = world.read(**({"as_of": NOON, "include_meta": True} | question))["meta"]
    return str(meta["path"])


def insert_raw(world: World, created_at: datetime, **columns: str) -> None:
    """A row with JSON as text, which Python could not write."""
    values = {
        "session_id": f"'{uuid4()}'",
        "user_id": "'ann'",
        "session_type": "'equity'",
        "created_at": f"'{created_at.isoformat()}'",
        "duration_seconds": "1",
        "tags": "'[]'",
    } | columns
    world.write(
        0,
        f"insert into session_metrics ({', '.join(values)}) select {', '.join(values.values())}",
    )


# Names ------------------------------------------------------------------------------------------


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


def test_what_came_and_went_in_one_fold_is_no_entry_and_in_two_folds_merges_to_none(
    world: World,
) -> None:
    world.merge_early()
    world.build()
    row = metrics(NOON - DAY, assets=[f"name {number}" for number in range(40)])
    for is_built in (False, True):
        add(world, row)
        if is_built:
            world.build()
        world.write(0, "delete from session_metrics where session_id = %s", [row.session])
        world.build()
        assert check(world)["total_sessions"] == 0
        assert world.rows()["session_totals"] == []
        world.check_totals()


# Time -------------------------------------------------------------------------------------------

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


# Values -----------------------------------------------------------------------------------------


def test_counts_too_large_for_one_entry_are_exact_at_every_level(world: World) -> None:
    """Past 2^37, where a second entry begins, past 2^39, and back again."""

    def insert(rows: int, days: int) -> None:
        world.write(
            0,
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, total_queries, query_type_summary) "
            "select gen_random_uuid(), 'ann', 'equity', %s, 2147483647, 2147483647, "
            '\'{"price": 2147483647, "news": 1}\' from generate_series(1, %s)',
            [NOON - DAY * days, rows],
        )

    world.merge_early()
    total = 0
    for rows, days in ((63, 3), (1, 3), (1, 3), (70, 3), (130, 12), (200, 3), (1, 40)):
        insert(rows, days)
        total += rows
        for _ in range(2):
            found = check_or_build(world, days=60)
            assert found["query_type_distribution"] == {
                "price": total * (2**31 - 1),
                "news": total,
            }
            check_or_build(world, days=60, user_id="ann")
            check_or_build(world, days=5)
            world.build()
    world.check_totals()
    world.write(0, "delete from session_metrics where created_at > %s", [NOON - 30 * DAY])
    for _ in range(2):
        assert check(world, days=60)["query_type_distribution"] == {"price": 2**31 - 1, "news": 1}
        world.build()
    world.check_incremental_equals_scratch()


def check_or_build(world: World, **question: Any) -> dict[str, Any]:
    return world.check(as_of=NOON, **question)


DIGITS = "repeat('9', 5000)"
DIRTY: dict[str, tuple[str, str | None]] = {
    "a number of 5000 digits": (f"('[' || {DIGITS} || ', \"x\"]')::jsonb", "[]"),
    "a fraction of 5000 digits": (f"('[0.' || {DIGITS} || ', \"x\"]')::jsonb", "[]"),
    "nested arrays": ('\'[[["y"]], "x", ["x"]]\'::jsonb', "[]"),
    "deeply nested arrays": (
        "('[\"x\", ' || repeat('[', 400) || repeat(']', 400) || ']')::jsonb",
        "[]",
    ),
    "objects": ('\'[{"x": 1}, "x"]\'::jsonb', "[]"),
    "nothing but strings": ("'[null, true, 1, \"x\", 1.5]'::jsonb", "[]"),
    "empty and over-long names": (
        "jsonb_build_array('', repeat('ω', 255), repeat('ω', 256), 'x')",
        "{}",
    ),
    "an over-long name": ("jsonb_build_array('x', repeat('ω', 256))", "{}"),
    "a count that is too large": ("'[\"x\"]'::jsonb", '{"x": 1, "big": 2147483648}'),
    "no array": ("'{\"x\": 1}'::jsonb", "[]"),
    "null": ("'null'::jsonb", "null"),
    "a string": ("'\"x\"'::jsonb", '"x"'),
    "counts of 5000 digits": ("'[\"x\"]'::jsonb", None),
    "counts that are none": (
        "'[\"x\"]'::jsonb",
        '{"x": 1, "y": 1.0, "z": 1.5, "": 1, "t": "1", "n": null, "a": [1], "o": {}, "m": -1, '
        '"b": true, "big": 2147483648, "e": 1e3, "large": 1e400}',
    ),
}


@pytest.mark.parametrize("dirty", DIRTY)
def test_whatever_json_holds_it_counts_the_same_unseen_at_the_edge_and_folded(
    world: World, dirty: str
) -> None:
    assets, query_types = DIRTY[dirty]
    counts = (
        f"jsonb_build_object('x', 1, 'y', {DIGITS}::numeric)"
        if query_types is None
        else f"'{query_types}'::jsonb"
    )
    columns = {"assets_analyzed": assets, "tags": assets, "query_type_summary": counts}
    # An edge, on both sides of a bucket; clean rows beside them.
    moments = [NOON - 2 * DAY + timedelta(seconds=s) for s in (-100, 100, 200)]
    world.build()
    for moment in moments:
        add(world, metrics(moment))
        insert_raw(world, moment, **columns)
    for is_built in (False, True):
        if is_built:
            world.build()
        for seconds in (-110, -90, 0, 110, 160, 190, 210):
            check(world, days=2, as_of=NOON + timedelta(seconds=seconds))
            check(world, days=2, as_of=NOON + timedelta(seconds=seconds), session_type="equity")
            world.check(days=2, as_of=NOON + timedelta(seconds=seconds), user_id="ann")
    world.check_incremental_equals_scratch()


def test_arrays_nested_deeper_than_python_goes_stop_no_path(world: World) -> None:
    deep = "('[\"x\", ' || repeat('[', 4000) || repeat(']', 4000) || ']')::jsonb"
    world.build()
    insert_raw(world, NOON - HOUR, assets_analyzed=deep, tags=deep, query_type_summary=deep)
    add(world, metrics(NOON - HOUR))
    for _ in range(2):
        for path in ("serving", "marts", "source"):
            for question in ({}, {"user_id": "ann"}):
                found = world.read(as_of=NOON, path=path, include_meta=True, **question)
                assert found["top_assets"] == [
                    {"symbol": "AAPL", "count": 1},
                    {"symbol": "x", "count": 1},
                ]
                assert found["query_type_distribution"] == {"price": 2}
                assert found["meta"]["set_aside_values"] == 3
        world.build()


def test_session_types_that_are_empty_unknown_or_odd_are_told_as_they_are(world: World) -> None:
    kinds = ["", " ", "unheard-of", "EQUITY", "Ωmega", "'); --", '"', "\\", "equity", "null"]
    for number, kind in enumerate(kinds):
        for _ in range(number % 3 + 1):
            add(world, metrics(NOON - DAY, session_type=kind))
        world.insert_session(0, session(NOON, NOON + DAY, kind, user_id="ann"))
    for is_built in (False, True):
        if is_built:
            world.build()
        found = world.check(as_of=NOON)
        assert set(found["session_type_breakdown"]) == set(kinds)
        assert found["active_sessions"] == len(kinds)
        for kind in kinds:
            assert world.check(as_of=NOON, session_type=kind)["active_sessions"] == 1
    check(world, session_type="equity")
    for kind in kinds:
        add(world, metrics(NOON - HOUR, session_type=kind))
    check(world)
    world.write(0, "update session_metrics set session_type = '' where session_type = 'equity'")
    check(world)
    world.check_incremental_equals_scratch()


# Active sessions --------------------------------------------------------------------------------


def test_what_opens_ends_and_closes_is_active_for_the_instant_that_is_asked_for(
    world: World,
) -> None:
    world.clear()
    # A heavy user among others.
    add(world, *(metrics(NOON - HOUR * number) for number in range(1, 4)))
    rows = [
        session(MIDNIGHT, expires_at, kind, user_id=user_id)
        for expires_at in (None, NOON - HOUR, NOON, NOON + MICROSECOND, NOON + DAY)
        for kind in ("equity", "unheard-of")
        for user_id in ("ann", None)
    ]
    for row in rows[::3]:
        world.insert_session(0, row)
    world.build()
    for row in (*rows[1::3], *rows[2::3]):
        world.insert_session(0, row)
    for _ in range(2):
        for as_of in (NOON - 2 * HOUR, NOON - HOUR, NOON, NOON + MICROSECOND, NOON + 2 * DAY):
            for kind in (None, "equity", "unheard-of"):
                world.check(as_of=as_of, session_type=kind)
            check(world, as_of=as_of, user_id="ann")
        world.write(0, "update sessions set expires_at = %s where expires_at < %s", [NOON, NOON])
        world.write(
            0, "update sessions set user_id = null, type = 'equity' where id = %s", [rows[0].id]
        )
        check(world)
        world.write(0, "select analytics.archive_session(%s)", [rows[1].id])
        check(world)
        world.build()
    world.check_incremental_equals_scratch()


# Heavy users ------------------------------------------------------------------------------------


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


# Layouts, retention, rebuilds -------------------------------------------------------------------

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


def test_a_rebuild_in_ranges_ends_at_its_window_though_rows_move_between_them(
    world: World,
) -> None:
    world.clear()
    rows = [metrics(NOON - DAY * days, assets=[f"{days}"]) for days in (1, 12, 40, 90, 210, 300)]
    add(world, *rows)
    for row in rows:
        world.insert_session(0, archived(row.created_at))
    world.build()
    world.request_rebuild()
    world.open_window()
    mart = world.marts["session_totals"]
    with world.builder.transaction():
        world.builder.execute("select analytics.begin_fold(%s, %s)", [mart.name, world.windows[-1]])
        ranges = world.builder.execute(
            "select starts_at::text, ends_before::text from analytics.fold_ranges()"
        ).fetchall()
        assert len(ranges) >= 4
        assert ranges[0][0] == "-infinity"
        assert ranges[-1][1] == "infinity"
        assert all(before[1] == after[0] for before, after in pairwise(ranges))
        for number, bounds in enumerate(ranges):
            world.builder.execute("select analytics.begin_range(%s, %s)", bounds)
            for statement in fold_statements(mart):
                world.builder.execute(statement.encode())
            row = rows[number % len(rows)]
            world.write(
                0,
                "update session_metrics set created_at = %s where session_id = %s",
                [NOON - DAY * (7 * number + 3), row.session],
            )
            world.write(
                0,
                "update sessions set archived_at = archived_at + interval '30 days' "
                "where user_id = 'ann' and archived_at < %s",
                [NOON - 50 * DAY],
            )
            add(world, metrics(NOON - DAY * 15 * number))
            world.insert_session(0, session(NOON, NOON + DAY))
        world.builder.execute("select analytics.end_fold(%s)", [mart.name])
    world.check_totals()
    for days in (1, 10, 20, 30, 70, 100, 200, 320):
        check(world, days=days)
    world.check_incremental_equals_scratch()


ROWS = st.lists(METRICS, min_size=1, max_size=8, unique_by=lambda row: row.session)


def insert_each(world: World, rows: Sequence[Metrics], *, is_built: Sequence[bool]) -> None:
    for row, is_built_after in zip(rows, is_built, strict=False):
        world.insert_metrics(0, [row], upsert=False)
        if is_built_after:
            world.build()
    world.build()


def test_any_split_into_folds_says_the_same_as_one(world: World) -> None:
    world.merge_early()

    @settings(COMMON, max_examples=25)
    @given(ROWS, st.lists(st.booleans(), min_size=8, max_size=8))
    def any_rows(rows: list[Metrics], is_built: list[bool]) -> None:
        found = []
        for splits in (is_built, [False] * 8):
            world.clear()
            world.build()
            insert_each(world, rows, is_built=splits)
            world.check_totals()
            found.append(world.rows()["session_totals"])
        users = heavy_users(found[0]) & heavy_users(found[1])
        assert of_scopes(found[0], users) == of_scopes(found[1], users)

    any_rows()


def test_folding_what_is_taken_back_restores_every_answer(world: World) -> None:
    questions: list[dict[str, Any]] = [
        {"days": days, "as_of": NOON + offset, **asked}
        for days in (1, 30)
        for offset in (timedelta(0), timedelta(minutes=2))
        for asked in ({}, {"session_type": "equity"}, {"user_id": "ann"})
    ]
    world.merge_early()

    @settings(COMMON, max_examples=12)
    @given(ROWS, ROWS)
    def any_rows(rows: list[Metrics], taken_back: list[Metrics]) -> None:
        world.clear()
        known = {row.session for row in rows}
        taken_back = [row for row in taken_back if row.session not in known]
        world.insert_metrics(0, rows, upsert=False)
        world.build()
        totals = world.rows()["session_totals"]
        answers = [world.check(**question) for question in questions]
        insert_each(world, taken_back, is_built=[True] * 8)
        for row in taken_back:
            world.write(0, "delete from session_metrics where session_id = %s", [row.session])
            world.build()
        users = heavy_users(totals)
        assert of_scopes(world.rows()["session_totals"], users) == totals
        assert [world.check(**question) for question in questions] == answers
        world.check_totals()

    any_rows()


# Where the layer is not what it should be -------------------------------------------------------


def filled(world: World) -> None:
    world.clear()
    for number in range(6):
        add(world, metrics(NOON - DAY * number - HOUR, assets=[f"{number}", "AAPL"]))
        add(world, metrics(NOON - DAY * number, user_id="bob", session_type="macro"))
    world.insert_session(0, session(NOON, NOON + DAY, user_id="ann"))
    world.build()
    add(world, metrics(NOON - 2 * HOUR))


def check_in_no_transaction(world: World, path: str | None = None) -> set[str]:
    """Compare what a caller gets with the oracle; return which paths answered."""
    source = read_source(world.oracle)
    paths = set()
    for user_id in (None, "ann", "bob", "cy"):
        for session_type in (None, "equity", "unheard-of"):
            for days in (1, 30):
                question: dict[str, Any] = {
                    "user_id": user_id,
                    "session_type": session_type,
                    "days": days,
                    "as_of": NOON,
                }
                found = world.read(**question, include_meta=True, path=path)
                paths.add(found.pop("meta")["path"])
                assert_same(found, expected_stats(source, **question))
    return paths


@pytest.mark.parametrize(
    "damage",
    [
        "drop schema serving cascade",
        "drop table serving.session_totals cascade",
        "drop table serving.layout",
        "drop table serving.scopes cascade",
        "drop table serving.keys cascade",
        "alter table serving.session_totals rename column stamp to mark",
        "drop function analytics.read_window",
    ],
)
def test_a_layer_that_is_not_there_or_of_another_version_is_no_error(
    world: World, damage: str
) -> None:
    filled(world)
    assert check_in_no_transaction(world) == {"serving", "marts", "source"}
    world.builder.execute(damage)
    if "keys" in damage:
        # What was learned of it stays true; a process that starts now knows nothing.
        world.cache.clear()
    assert check_in_no_transaction(world) == {"marts", "source"}
    assert check_in_no_transaction(world, path="serving") == {"marts", "source"}


def test_a_layer_that_is_closed_to_the_reader_is_no_error(world: World) -> None:
    filled(world)
    role = f"reader_{uuid4().hex}"
    builder = world.builder

    def grant(schemas: str) -> None:
        for granted in (
            "usage on schema",
            "select on all tables in schema",
            "execute on all functions in schema",
        ):
            builder.execute(f"grant {granted} {schemas} to {role}")

    builder.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    try:
        grant("analytics, marts, public")
        set_role = sql.SQL("set role {}").format(sql.Identifier(role))
        world.loop.run_until_complete(world.reader.execute(set_role))
        assert check_in_no_transaction(world) == {"marts", "source"}
        grant("serving")
        assert check_in_no_transaction(world) == {"serving", "marts", "source"}
        world.loop.run_until_complete(world.reader.execute("reset role"))
    finally:
        builder.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
        builder.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_layer_that_is_far_behind_adds_what_it_has_not_seen(world: World) -> None:
    filled(world)
    others = [mart for name, mart in world.marts.items() if name != "session_totals"]
    for number in range(30):
        add(world, metrics(NOON - HOUR * 20 * number, assets=[f"late {number % 12}"]))
        if number % 10 == 9:
            world.write(0, "delete from session_metrics where created_at < %s", [NOON - 20 * DAY])
            world.open_window()
            for mart in others:
                fold_mart(world.builder, mart, world.windows[-1])
            world.prune()
            for days in (1, 30):
                check(world, days=days)
                check(world, days=days, user_id="ann")
    world.build()
    check(world)
    world.check_incremental_equals_scratch()


def test_a_layer_without_a_watermark_leaves_the_answer_to_the_marts(world: World) -> None:
    filled(world)
    world.builder.execute(
        "update analytics.watermarks set watermark = null where mart = 'session_totals'"
    )
    assert check_in_no_transaction(world) == {"marts", "source"}
    world.builder.execute("delete from analytics.watermarks where mart = 'session_totals'")
    assert check_in_no_transaction(world) == {"marts", "source"}


# What readers keep ------------------------------------------------------------------------------


def test_what_a_reader_keeps_never_outlives_a_change(world: World) -> None:
    """One cache through folds, late rows, rebuilds, layouts and an emptied database."""
    filled(world)
    questions: list[dict[str, Any]] = [
        {},
        {"days": 1},
        {"session_type": "macro"},
        {"user_id": "ann"},
    ]

    def check_all() -> None:
        for question in questions:
            for _ in range(2):
                check(world, **question)
            check(world, **(question | {"as_of": NOON + timedelta(minutes=9)}))

    check_all()
    add(world, metrics(NOON - 40 * DAY), metrics(NOON - HOUR, assets=["more"]))
    world.build()
    check_all()
    world.rebuild()
    check_all()
    world.set_layout(bucket_width="10 minutes", running_days=5)
    world.build()
    check_all()
    # A fold that fails leaves keys behind that nobody has.
    mart = world.marts["session_totals"]
    add(world, metrics(NOON - HOUR, assets=["lost", "found"]))
    world.open_window()
    with world.builder.transaction(force_rollback=True):
        world.builder.execute("select analytics.begin_fold(%s, %s)", [mart.name, world.windows[-1]])
        for statement in fold_statements(mart):
            world.builder.execute(statement.encode())
    check_all()
    add(world, metrics(NOON - 2 * HOUR, assets=["another", "first"]))
    world.build()
    check_all()
    filled(world)
    check_all()


def diverge(world: World, names: list[str]) -> None:
    """Make keys of names in an order of this database's own."""
    for name in names:
        add(world, metrics(NOON - HOUR, assets=[name] * 3, tags=[name], query_types={name: 5}))
        world.build()


def test_a_cache_that_meets_a_restored_database_learns_its_keys_anew(
    world: World, copy_database: Callable[[], World]
) -> None:
    filled(world)
    check(world)
    other = copy_database()
    other.cache = world.cache
    # It is the same cache that reads a copy which may hold the same etags.
    other.check(as_of=NOON)
    other.build()
    names = [f"key {number}" for number in range(30)]
    diverge(world, names[:12])
    diverge(other, names[:5:-1])
    for _ in range(2):
        for reader in (world, other):
            for question in ({}, {"days": 1}, {"session_type": "equity"}):
                check(reader, **question)


def test_a_cache_that_meets_a_copy_of_the_same_files_learns_its_keys_anew(
    migrated_database: str, make_database: Callable[..., str], world: World
) -> None:
    """Copied by the server, with every object's id, and then swapped for the first one."""
    filled(world)
    cache = ServingCache()
    marts = tuple(world.marts.values())
    # Nobody may be connected to what is copied.
    world.disconnect()
    copied = make_database(migrated_database.rsplit("/", 1)[-1])
    world.connect()
    other = World(copied, marts)
    try:
        world.cache = other.cache = cache
        names = [f"key {number}" for number in range(20)]
        diverge(world, names)
        diverge(other, names[::-1])
        for _ in range(2):
            for reader in (world, other):
                for question in ({}, {"days": 1}):
                    check(reader, **question)
    finally:
        other.close()


def test_a_fold_with_new_names_is_on_disk_before_anybody_sees_it(world: World) -> None:
    """Lost in a crash that readers outlive, its keys would be given to other names."""
    mart = world.marts["session_totals"]
    world.build()
    settings = []
    for assets in (["AAPL", "new"], ["AAPL"]):
        add(world, metrics(NOON - HOUR, assets=assets))
        world.open_window()
        with world.builder.transaction():
            world.builder.execute(
                "select analytics.begin_fold(%s, %s)", [mart.name, world.windows[-1]]
            )
            for statement in fold_statements(mart):
                world.builder.execute(statement.encode())
            row = world.builder.execute("show synchronous_commit").fetchone()
            settings.append(row and row[0])
            world.builder.execute("select analytics.end_fold(%s)", [mart.name])
    assert settings == ["on", "off"]
