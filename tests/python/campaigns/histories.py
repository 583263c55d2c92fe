"""Random histories of transactions and builds, each read on every path and built from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from campaigns.campaign import Campaign
from campaigns.ground import Ground
from exactness.histories import COMMON, STEPS, Step, play
from exactness.world import World
from hypothesis import given, seed, settings

__all__ = ["RANDOM"]

_OF_A_ROUND = 50


def _play(ground: Ground, choose: Random) -> Counter[str]:
    """Fifty histories; of one that finds something the shortest that still does is told."""
    played = 0
    with ground.database() as conninfo:
        world = World(conninfo, ground.marts)

        @seed(choose.getrandbits(64))
        @settings(COMMON, max_examples=_OF_A_ROUND)
        @given(STEPS)
        def any_history(steps: Sequence[Step]) -> None:
            nonlocal played
            play(world, steps)
            played += 1

        try:
            if choose.random() < 1 / 2:
                world.merge_early()
            any_history()
        finally:
            world.close()
    answers = {f"answers from {path}": count for path, count in world.paths.items()}
    return Counter({"histories": played, **answers})


RANDOM = Campaign(
    name="histories-random",
    disturbance=(
        "fifty histories: transactions held open across builds, rolled back, with savepoints, "
        "out of order; incremental == from scratch"
    ),
    play=_play,
    rounds=100,
    short=2,
)
