"""Rows that are written otherwise, corrected, moved and taken back: the feed has what changed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from exactness.examples import add, archived, metrics
from exactness.moments import NOON
from exactness.world import World


def test_three_equal_archivals_that_are_moved_at_once_are_moved_three_times(world: World) -> None:
    for _ in range(3):
        world.insert_session(0, archived(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "update sessions set archived_at = %s", [NOON - timedelta(days=1)])
    assert world.check(as_of=NOON, days=1)["archived_sessions"] == 3
    world.check_incremental_equals_scratch()


def test_an_archival_that_is_moved_or_taken_back_leaves_no_trace(world: World) -> None:
    world.insert_session(0, archived(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "update sessions set archived_at = %s", [NOON - timedelta(days=9)])
    assert world.check(as_of=NOON, days=7)["archived_sessions"] == 0
    assert world.check(as_of=NOON)["archived_sessions"] == 1
    world.build()
    world.write(0, "update sessions set is_archived = false")
    assert world.check(as_of=NOON)["archived_sessions"] == 0
    world.check_incremental_equals_scratch()


def test_rows_that_look_the_same_are_corrected_one_by_one(world: World) -> None:
    add(world, *(metrics(NOON - timedelta(days=2)) for _ in range(3)))
    world.build()
    world.write(0, "update session_metrics set assets_analyzed = '[\"TSLA\"]'")
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "TSLA", "count": 3}]
    world.check_incremental_equals_scratch()


def test_tags_are_those_of_the_recording_whatever_becomes_of_the_session(world: World) -> None:
    session_id = UUID(int=1)
    world.write(
        0,
        "insert into sessions (id, type, tags, expires_at) values (%s, 'equity', '[\"old\"]', %s)",
        [session_id, NOON + timedelta(days=9000)],
    )
    world.insert_metrics(
        0, [metrics(NOON - timedelta(days=2), session=session_id, tags=None)], upsert=False
    )
    world.build()
    world.write(0, "update sessions set tags = '[\"new\"]' where id = %s", [session_id])
    found = world.check(as_of=NOON)
    assert found["popular_tags"] == [{"tag": "old", "count": 1}]


def test_a_key_whose_count_falls_to_zero_vanishes_from_mart_and_answer(world: World) -> None:
    gone = metrics(NOON - timedelta(days=2), assets=["GONE"], tags=["gone"])
    add(world, gone, metrics(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "delete from session_metrics where session_id = %s", [gone.session])
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "AAPL", "count": 1}]
    world.build()
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "AAPL", "count": 1}]
    assert [row[2] for row in world.rows()["daily_asset_counts"]] == ["AAPL"]


def test_what_copy_and_cascades_write_is_in_the_feed(world: World) -> None:
    connection = world.writers[0]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, assets_analyzed) from stdin"
        ) as copy,
    ):
        for number in range(50):
            copy.write_row(
                (uuid4(), f"user {number}", "equity", NOON - timedelta(days=2), 5, '["AAPL"]')
            )
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 50
    connection.execute("create table app_users (id varchar(255) primary key)")
    connection.execute("insert into app_users select distinct user_id from session_metrics")
    connection.execute(
        "alter table session_metrics add foreign key (user_id) references app_users "
        "on delete cascade on update cascade"
    )
    connection.execute("delete from app_users where id < 'user 3'")
    connection.execute("update app_users set id = 'renamed' where id = 'user 45'")
    world.check(as_of=NOON)
    assert world.check(as_of=NOON, user_id="renamed")["total_sessions"] == 1
    world.check_incremental_equals_scratch()
    connection.execute("drop table app_users cascade")
