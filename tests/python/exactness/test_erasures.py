"""Erased users are in no figure, and nobody brings them back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import NOON
from exactness.world import World
from warehouse.application import wait_until


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


def test_an_erasure_that_is_committed_while_others_are_finished_is_folded_first(
    world: World,
) -> None:
    add(world, *(metrics(NOON - timedelta(days=2), user_id=user) for user in ("ann", "bob", "cy")))
    world.build()
    world.write(0, "select analytics.erase_user('ann')")
    world.build()
    with psycopg.connect(world.conninfo) as eraser, ThreadPoolExecutor(1) as thread:
        # What finishes has looked at the feed, and waits before it deletes from it.
        eraser.execute("lock table analytics.session_changes in share mode")
        with psycopg.connect(world.conninfo, autocommit=True) as finisher:
            finishing = thread.submit(finisher.execute, "select analytics.finish_erasures()")
            wait_until(
                world.oracle,
                "exists (select from pg_locks where not granted "
                f"and pid = {finisher.info.backend_pid})",
            )
            eraser.execute("select analytics.erase_user('bob')")
            eraser.commit()
            assert finishing.result().fetchone() == (True,)
    receipt = dict(
        world.oracle.execute("select place, remaining from analytics.erasure_receipt('bob')")
    )
    assert receipt["names of their own"] == 1
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 1
    assert world.builder.execute("select analytics.finish_erasures()").fetchone() == (True,)
    assert not any(
        remaining
        for _, remaining in world.oracle.execute("select * from analytics.erasure_receipt('bob')")
    )
    world.check_incremental_equals_scratch()
