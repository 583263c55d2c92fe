"""Erased users are in no figure, and nobody brings them back."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import NOON
from exactness.world import World


def test_a_writer_with_an_old_snapshot_cannot_bring_an_erased_user_back(world: World) -> None:
    world.writers[1].execute("begin isolation level repeatable read")
    world.writers[1].execute("select from sessions")
    add(world, metrics(NOON - timedelta(days=2)))
    world.write(0, "select analytics.erase_user('ann')")
    with pytest.raises(psycopg.errors.SerializationFailure):
        world.writers[1].execute(
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds) values (gen_random_uuid(), 'ann', 'equity', now(), 1)"
        )
    world.writers[1].rollback()
    world.check_incremental_equals_scratch()


def test_an_erased_user_does_not_come_back_through_somebody_s_trigger(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2), user_id="bob"))
    world.write(0, "select analytics.erase_user('ann')")
    connection = world.writers[0]
    connection.execute(
        "create function public.rename() returns trigger language plpgsql as "
        "$$ begin new.user_id := 'ann'; return new; end $$"
    )
    connection.execute(
        "create trigger zz before update on session_metrics "
        "for each row execute function public.rename()"
    )
    with pytest.raises(psycopg.Error, match="was erased"):
        connection.execute("update session_metrics set total_queries = 3")


def test_erasing_a_user_takes_the_rows_out_of_every_figure_and_keeps_late_writes_out(
    world: World,
) -> None:
    add(world, metrics(NOON - timedelta(days=2)), metrics(NOON - timedelta(days=2), user_id="bob"))
    for user_id in ("ann", "bob"):
        world.insert_session(0, archived(NOON - timedelta(days=2), user_id))
    world.build()
    world.write(0, "select analytics.erase_user('ann')")
    assert world.check(as_of=NOON)["total_sessions"] == 1
    with pytest.raises(psycopg.Error, match="was erased"):
        world.writers[0].execute(
            "insert into sessions (id, user_id, type) values (gen_random_uuid(), 'ann', 'equity')"
        )
    for table in ("sessions", "session_metrics"):
        with pytest.raises(psycopg.Error, match="was erased"):
            world.writers[0].execute(f"update {table} set user_id = 'ann'")
    world.build()
    assert world.check(as_of=NOON)["archived_sessions"] == 1
    keys = world.builder.execute("select distinct user_key from marts.daily_user_stats").fetchall()
    assert len(keys) == 1
    world.check_incremental_equals_scratch()
    world.write(0, "select analytics.forget_erasure('ann')")
    add(world, metrics(NOON - timedelta(days=2)))
    assert world.check(as_of=NOON)["total_sessions"] == 2
