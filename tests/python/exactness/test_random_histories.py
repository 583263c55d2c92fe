"""Reader == oracle, and incremental == from scratch, over random histories."""

from collections.abc import Sequence

import pytest
from exactness.histories import STEPS, Step
from exactness.moments import NOON
from exactness.world import World
from hypothesis import HealthCheck, Phase, given, settings

# In `make test`; `make test-long` plays a hundred times as many.
CASES = 120

COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
    print_blob=True,
)


def play(world: World, steps: Sequence[Step]) -> None:
    world.clear()
    for step in steps:
        step(world)
    for days in (1, 90):
        world.check(days=days, as_of=NOON)
    world.check_incremental_equals_scratch()
    world.check(days=3650)


@pytest.mark.parametrize("part", range(2))
def test_the_reader_equals_a_naive_scan_whatever_happened(world: World, part: int) -> None:
    if part:
        world.merge_early()

    @settings(COMMON, max_examples=CASES // 2, derandomize=False)
    @given(STEPS)
    def any_history(steps: Sequence[Step]) -> None:
        play(world, steps)

    any_history()


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(10))
def test_the_reader_equals_a_naive_scan_in_tens_of_thousands_of_histories(
    world: World, part: int
) -> None:
    if part % 2:
        world.merge_early()

    @settings(COMMON, max_examples=3_000)
    @given(STEPS)
    def any_history(steps: Sequence[Step]) -> None:
        play(world, steps)

    any_history()
