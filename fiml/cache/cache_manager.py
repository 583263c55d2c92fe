"""Keeps the answers of async functions in memory for a while.

What a cache must never do decides how this one works: give an answer to another question than was
asked, or an object that somebody else is changing. So a key is made of the arguments themselves,
each with its type (`1`, `"1"`, `True` and `1.0` are four questions), and every caller gets a copy.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from fiml.cache._keys import key_of_call
from fiml.errors import InvalidArgumentError

__all__ = ["MAX_ENTRIES", "cached", "clear"]

MAX_ENTRIES: Final = 10_000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Any
    # By the monotonic clock: setting the wall clock neither keeps nor drops an answer.
    expires_at: float


@dataclass(slots=True)
class _Computation:
    task: asyncio.Task[Any]
    waiting: int = 0


class _Memory:
    """Answers by key, the least recently used dropped first. Shared by threads and event loops."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.generation = 0

    def get(self, key: Hashable) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.expires_at <= time.monotonic():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: _Entry, generation: int) -> None:
        with self._lock:
            # What was asked before the memory was cleared must not come back after it.
            if generation != self.generation:
                return
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.generation += 1


_memory = _Memory(MAX_ENTRIES)
# A task belongs to its event loop: calls are joined within one.
_under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Computation]] = (
    WeakKeyDictionary()
)
# An event loop holds its tasks weakly.
_tasks: set[asyncio.Task[Any]] = set()


def clear() -> None:
    """Forget every answer. Computations under way go on, and what they find is not kept."""
    _memory.clear()
    for computations in list(_under_way.values()):
        computations.clear()


def cached(
    ttl: float | timedelta,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Decorate an async function, so that an answer is computed once and kept for `ttl`.

    Concurrent calls that ask the same compute once, also where the first caller is cancelled; the
    computation is cancelled when nobody waits for it any more. Exceptions are passed to those who
    wait and are not kept. At most `MAX_ENTRIES` answers are kept, of all functions together.
    The answer must depend on nothing but the arguments. For asyncio.

    Args:
        ttl: how long an answer is kept from when it was found: seconds above 0, or a `timedelta`.

    Raises:
        InvalidArgumentError (a ValueError): `ttl` is no such time.
        TypeError: the function is not async. At a call: an argument that can be no part of a key
            (see `key_of_call`), or a result that cannot be copied.
    """
    seconds = _seconds(ttl)

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is no async function: only those can be cached")
        signature = inspect.signature(function)
        # Its own for each decoration: functions of the same name can be different ones.
        identity = object()

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            key = (identity, key_of_call(call))
            entry = _memory.get(key)
            if entry is None:
                compute = functools.partial(function, *args, **kwargs)
                entry = await _computed(key, compute, seconds)
            return cast("T", deepcopy(entry.value))

        return wrapper

    return decorate


async def _computed(key: Hashable, compute: Callable[[], Awaitable[Any]], seconds: float) -> _Entry:
    loop = asyncio.get_running_loop()
    computations = _under_way.setdefault(loop, {})
    computation = computations.get(key)
    if computation is None:
        task = loop.create_task(_compute(key, compute, seconds))
        _tasks.add(task)
        task.add_done_callback(_forget)
        computation = computations[key] = _Computation(task)
    computation.waiting += 1
    try:
        # Waiting for a task, unlike awaiting it, does not cancel it where the waiter is cancelled.
        await asyncio.wait({computation.task})
    finally:
        computation.waiting -= 1
        if computation.waiting == 0:
            if computations.get(key) is computation:
                del computations[key]
            computation.task.cancel()
    return cast("_Entry", computation.task.result())


async def _compute(key: Hashable, compute: Callable[[], Awaitable[Any]], seconds: float) -> _Entry:
    generation = _memory.generation
    # A copy, so that what the function keeps of its result and changes later stays its own.
    value = deepcopy(await compute())
    entry = _Entry(value, time.monotonic() + seconds)
    _memory.put(key, entry, generation)
    return entry


def _forget(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled():
        # Nobody may be left to hear of it.
        task.exception()


def _seconds(ttl: object) -> float:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < math.inf:  # type: ignore[operator]
        raise InvalidArgumentError(f"ttl is {ttl!r}; expected seconds above 0, or a timedelta")
    return float(seconds)  # type: ignore[arg-type]
