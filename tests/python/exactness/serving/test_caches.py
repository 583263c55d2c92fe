"""What a reader keeps of the serving layer, and the databases and copies it meets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from exactness.examples import add, metrics
from exactness.moments import DAY, HOUR, NOON
from exactness.serving.layer import check, filled
from exactness.world import World

from fiml.sessions.serving import ServingCache
from fiml.warehouse.fold import fold_statements


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
    # A fold that fails gives keys away that other names get later.
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
    """Make keys of names in an order of this database's own, and count each name differently."""
    for name in names:
        often = int(name.removeprefix("key ")) + 1
        counted = {"assets": [name] * often, "tags": [name] * often, "query_types": {name: often}}
        add(world, metrics(NOON - HOUR, **counted))
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
