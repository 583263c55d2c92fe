"""Malformed rows, written straight into the tables."""

from __future__ import annotations

from collections import Counter
from random import Random

from campaigns.campaign import Campaign
from campaigns.ground import Ground
from exactness.world import World
from hostile.pipeline import play
from hostile.rows import malformed_rows

__all__ = ["ROWS"]

_OF_A_ROUND = 500


def _play(ground: Ground, choose: Random) -> Counter[str]:
    with ground.database() as conninfo:
        world = World(conninfo, ground.marts)
        try:
            written = play(world, malformed_rows(_OF_A_ROUND, choose.getrandbits(64)))
        finally:
            world.close()
    refused = {f"refused with {reason}": count for reason, count in written.refused.items()}
    return Counter({"malformed": written.malformed, "good": written.good, **refused})


ROWS = Campaign(
    name="rows-malformed",
    disturbance=(
        "five hundred malformed rows, straight into the tables, good ones among them; a third are "
        "refused by their columns' types; nothing stops, and what is set aside is counted"
    ),
    play=_play,
    rounds=16,
    short=1,
)
