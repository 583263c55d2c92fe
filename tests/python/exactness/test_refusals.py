"""What the database refuses, since it could not keep figures exact, and what it opens to nobody."""

from __future__ import annotations

import psycopg
import pytest
from exactness.world import World


@pytest.mark.parametrize("call", ["erase_user('ann')", "apply_retention(now())"])
def test_erasure_and_retention_refuse_a_snapshot_that_may_be_too_old(
    world: World, call: str
) -> None:
    world.builder.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        world.builder.execute(f"select analytics.{call}")
    world.builder.rollback()


def test_what_runs_with_its_owner_s_rights_is_closed_to_everybody_else(world: World) -> None:
    open_to_all = world.builder.execute(
        """
        select pg_proc.oid::regprocedure::text
        from pg_proc
        where
            pronamespace = 'analytics'::regnamespace
            and prosecdef
            and prorettype <> 'trigger'::regtype
            and (proacl is null or exists (
                select from aclexplode(proacl) as granted where granted.grantee = 0
            ))
        """
    ).fetchall()
    assert open_to_all == []


def test_truncate_is_refused_with_a_hint(world: World) -> None:
    for table in ("sessions", "session_metrics"):
        with pytest.raises(psycopg.errors.RaiseException, match="TRUNCATE") as refusal:
            world.writers[0].execute(f"truncate {table}")
        assert "DELETE" in str(refusal.value)


def test_a_window_cannot_be_opened_where_its_snapshot_would_be_too_old(world: World) -> None:
    world.builder.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        world.builder.execute("select analytics.open_window('x')")
    world.builder.rollback()
    world.builder.execute("begin")
    world.builder.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', now(), 1)"
    )
    with pytest.raises(psycopg.errors.RaiseException, match="wrote to the change feed"):
        world.builder.execute("select analytics.open_window('x')")
    world.builder.rollback()
