"""Asking the serving layer, and filling it."""

from __future__ import annotations

from typing import Any

from exactness.examples import add, metrics, session
from exactness.moments import DAY, HOUR, NOON
from exactness.world import World

__all__ = ["check", "filled", "path_of", "symbols"]


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


def filled(world: World) -> None:
    world.clear()
    for number in range(6):
        add(world, metrics(NOON - DAY * number - HOUR, assets=[f"{number}", "AAPL"]))
        add(world, metrics(NOON - DAY * number, user_id="bob", session_type="macro"))
    world.insert_session(0, session(NOON, NOON + DAY, user_id="ann"))
    world.build()
    add(world, metrics(NOON - 2 * HOUR))
