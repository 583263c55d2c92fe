"""Large counts, odd JSON and odd session types in the serving layer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from exactness.examples import add, metrics, session
from exactness.moments import DAY, HOUR, NOON
from exactness.serving.layer import check
from exactness.world import World

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
