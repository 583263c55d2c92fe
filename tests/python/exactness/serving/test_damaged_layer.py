"""A serving layer that is not there, closed, far behind or of another version is no error."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from exactness.examples import add, metrics
from exactness.moments import DAY, HOUR, NOON
from exactness.oracle import assert_same, expected_stats, read_source
from exactness.serving.layer import check, filled
from exactness.world import World
from psycopg import sql

from fiml.warehouse.fold import fold_mart


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
