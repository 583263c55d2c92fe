"""Whose read is next: everybody who waits gets their share, whatever others want."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from fiml.web.turns import Turns

pytestmark = pytest.mark.anyio


class Room:
    """Turns on a clock that stands still but for what reads take."""

    def __init__(self, places: int = 1) -> None:
        self.seconds = 0.0
        self.turns = Turns(places, lambda: self.seconds)
        self.order: list[str] = []

    async def read(self, *callers: str, takes: float) -> None:
        async with self.turns.turn(lambda: set(callers)):
            self.order.append("+".join(callers))
            await asyncio.sleep(0)
            self.seconds += takes

    @asynccontextmanager
    async def held(self, caller: str) -> AsyncIterator[None]:
        """One place is taken, until all who came inside this wait."""
        async with self.turns.turn(lambda: [caller]):
            yield
            await asyncio.sleep(0)


async def test_who_wants_one_does_not_wait_for_the_many_of_another() -> None:
    room = Room()
    async with asyncio.TaskGroup() as reads, room.held("greedy"):
        for _ in range(20):
            reads.create_task(room.read("greedy", takes=3))
        reads.create_task(room.read("modest", takes=1))
    # Neither had used anything, so that who waited longer is first.
    assert room.order[:2] == ["greedy", "modest"]


async def test_nobody_takes_a_second_place_that_somebody_waits_for() -> None:
    room = Room(places=2)
    async with room.held("greedy"):
        async with asyncio.TaskGroup() as reads, room.held("somebody"):
            for caller in ["greedy", "greedy", "modest"]:
                reads.create_task(room.read(caller, takes=1))
        # Alone it may have both.
        assert room.order == ["modest", "greedy", "greedy"]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_a_read_takes_everybody_gets_the_same_time(seed: int) -> None:
    choose = Random(seed)
    dear = {f"caller {number}": choose.choice([0.1, 1, 5]) for number in range(6)}
    room = Room()
    used = dict.fromkeys(dear, 0.0)

    async def go_on(caller: str) -> None:
        while room.seconds < 500:
            await room.read(caller, takes=dear[caller])
            if room.seconds < 500:
                used[caller] += dear[caller]

    async with asyncio.TaskGroup() as reads:
        for caller in dear:
            # One waits while the other is read.
            for _ in range(choose.choice([2, 20])):
                reads.create_task(go_on(caller))
    shares = used.values()
    assert max(shares) - min(shares) <= 2 * max(dear.values())


async def test_who_was_away_has_saved_nothing_up() -> None:
    room = Room()
    for _ in range(10):
        await room.read("early", takes=10)
    async with asyncio.TaskGroup() as reads, room.held("somebody"):
        for _ in range(10):
            reads.create_task(room.read("early", takes=10))
        for _ in range(10):
            reads.create_task(room.read("late", takes=10))
    # Nobody waited for the first ten.
    assert room.order[10:] == ["early", "late"] * 10


async def test_who_used_much_while_others_waited_waits_for_them() -> None:
    room = Room()
    async with asyncio.TaskGroup() as reads, room.held("somebody"):
        reads.create_task(room.read("dear", takes=10))
        for _ in range(3):
            reads.create_task(room.read("cheap", takes=1))
        reads.create_task(room.read("dear", takes=10))
    assert room.order == ["dear", "cheap", "cheap", "cheap", "dear"]


async def test_what_several_look_at_is_read_as_soon_as_one_of_them_has_a_turn() -> None:
    room = Room()
    async with asyncio.TaskGroup() as reads, room.held("greedy"):
        for _ in range(2):
            reads.create_task(room.read("greedy", takes=1))
        reads.create_task(room.read("greedy", "modest", takes=1))
        room.seconds += 10
    assert room.order == ["greedy+modest", "greedy", "greedy"]


async def test_what_several_look_at_costs_each_a_part() -> None:
    room = Room()
    async with asyncio.TaskGroup() as reads, room.held("somebody"):
        reads.create_task(room.read("one", "other", takes=4))
        reads.create_task(room.read("third", takes=3))
        reads.create_task(room.read("third", takes=3))
        reads.create_task(room.read("one", takes=4))
    assert room.order == ["one+other", "third", "one", "third"]


@pytest.mark.parametrize("seed", range(20))
async def test_a_read_that_is_cancelled_at_any_moment_gives_its_place_back(seed: int) -> None:
    choose = Random(seed)
    room = Room(places=2)
    for _ in range(50):
        reads = [asyncio.create_task(room.read(choose.choice("abc"), takes=1)) for _ in range(6)]
        for _ in range(choose.randrange(4)):
            await asyncio.sleep(0)
        for read in choose.sample(reads, 3):
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
    before = len(room.order)
    await asyncio.gather(room.read("a", takes=1), room.read("b", takes=1))
    assert len(room.order) == before + 2
    # Both places are there: a third waits, two do not.
    async with room.turns.turn(lambda: "a"), room.turns.turn(lambda: "b"):
        third = asyncio.create_task(room.read("c", takes=1))
        await asyncio.sleep(0)
        assert len(room.order) == before + 2
    await third


async def test_callers_that_came_and_went_take_no_memory() -> None:
    room = Room()
    for number in range(3000):
        await room.read(f"caller {number}", takes=1 if number % 7 else 0)
    assert room.turns.callers < 10
