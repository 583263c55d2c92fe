"""Whose read is next: nobody's many views, or dear ones, cost others more than their share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

__all__ = ["Turns"]

Callers = Callable[[], Collection[Hashable]]


@dataclass(slots=True, eq=False)
class _Turn:
    callers: Callers
    given: asyncio.Future[None]
    # Those who were there as it began: what it takes is theirs, in equal parts.
    whose: tuple[Hashable, ...] = ()
    began: float = 0.0


class Turns:
    """A few places, the next of which goes to the caller who holds the fewest and used the least.

    Fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989) over callers, with the seconds that a
    turn took for its length: beside what each used is kept what each would have used, had all who
    were there shared alike. Who comes begins with that, so that nobody saves up by being away; who
    used no more is not remembered.
    """

    def __init__(self, places: int, clock: Callable[[], float] = monotonic) -> None:
        """Set how many have a turn at once, and what measures them: seconds that never go back."""
        self._places = places
        self._clock = clock
        self._waiting: list[_Turn] = []
        self._under_way: Counter[Hashable] = Counter()
        self._used: dict[Hashable, float] = {}
        self._share = 0.0

    @property
    def callers(self) -> int:
        """How many are remembered for what they used."""
        return len(self._used)

    @asynccontextmanager
    async def turn(self, callers: Callers) -> AsyncIterator[None]:
        """Wait for a place, and hold it inside this.

        Args:
            callers: for whom, asked when a place is free: while one waits, others may join.
        """
        turn = _Turn(callers, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._give()
        try:
            await turn.given
            yield
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._take_back(turn)

    def _give(self) -> None:
        while self._places and self._waiting:
            # Of equals the first, which has waited longest.
            turn = min(self._waiting, key=self._rank)
            self._waiting.remove(turn)
            self._places -= 1
            turn.whose = tuple(turn.callers())
            self._under_way.update(turn.whose)
            turn.began = self._clock()
            if not turn.given.done():
                turn.given.set_result(None)

    def _rank(self, turn: _Turn) -> tuple[int, float]:
        return min(
            ((self._under_way[caller], self._used_by(caller)) for caller in turn.callers()),
            default=(0, self._share),
        )

    def _used_by(self, caller: Hashable) -> float:
        return max(self._share, self._used.get(caller, 0.0))

    def _take_back(self, turn: _Turn) -> None:
        took = self._clock() - turn.began
        present = {*self._under_way, *(caller for one in self._waiting for caller in one.callers())}
        for caller in turn.whose:
            self._used[caller] = self._used_by(caller) + took / len(turn.whose)
        if present:
            self._share += took / len(present)
        self._used = {caller: used for caller, used in self._used.items() if used > self._share}
        self._under_way -= Counter(turn.whose)
        self._places += 1
        self._give()
