"""Folds of the serving layer: in ranges, split, taken back, and on disk in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from exactness.examples import add, archived, metrics, session
from exactness.histories import COMMON, METRICS
from exactness.moments import DAY, HOUR, NOON
from exactness.serving.layer import check
from exactness.world import Metrics, World
from exactness.world.totals import heavy_users, of_scopes
from hypothesis import given, settings
from hypothesis import strategies as st

from fiml.warehouse.fold import fold_statements

ROWS = st.lists(METRICS, min_size=1, max_size=8, unique_by=lambda row: row.session)


def insert_each(world: World, rows: Sequence[Metrics], *, is_built: Sequence[bool]) -> None:
    for row, is_built_after in zip(rows, is_built, strict=False):
        world.insert_metrics(0, [row], upsert=False)
        if is_built_after:
            world.build()
    world.build()


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
