import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel

from fiml.cache import cache_manager
from fiml.cache.cache_manager import MAX_ENTRIES, cached, clear
from fiml.sessions.models import SessionType

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    clear()
    yield
    clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until the test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("fiml.cache.cache_manager.time.monotonic", lambda: clock.now)
    return clock


class Asked:
    """A cached function that remembers what it was asked."""

    def __init__(self, ttl: float = 300) -> None:
        self.questions: list[tuple[Any, ...]] = []

        @cached(ttl=ttl)
        async def ask(*question: Any) -> int:
            self.questions.append(question)
            return len(self.questions)

        self.ask = ask


async def test_both_documented_imports_are_the_same() -> None:
    assert cache_manager.cached is cached


async def test_an_answer_is_computed_once() -> None:
    calls = []

    @cached(ttl=300)
    async def stats(user_id: str, days: int = 30) -> dict[str, Any]:
        """What it says."""
        calls.append(user_id)
        return {"user_id": user_id, "days": days}

    assert stats.__name__ == "stats"
    assert stats.__doc__ == "What it says."
    for answer in (
        await stats("a"),
        await stats("a", 30),
        await stats(user_id="a", days=30),
        await stats(days=30, user_id="a"),
    ):
        assert answer == {"user_id": "a", "days": 30}
    assert await stats("b") == {"user_id": "b", "days": 30}
    assert calls == ["a", "b"]


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: object


class Text(str):
    __slots__ = ()


class Filter(BaseModel):
    user_id: str | None = None


@dataclass
class Window:
    days: object


QUESTIONS: list[Any] = [
    None,
    "",
    "None",
    0,
    0.0,
    False,
    1,
    1.0,
    True,
    "1",
    b"1",
    "True",
    Decimal(1),
    Decimal("1.0"),
    Colour.RED,
    Text("1"),
    SessionType.EQUITY,
    "equity",
    [],
    [1],
    ["1"],
    [True],
    (),
    (1,),
    (True,),
    ("1",),
    Point(1),
    Point(True),  # noqa: FBT003
    {1},
    {True},
    frozenset({1}),
    {},
    {"a": 1},
    {"a": True},
    {"a": "1"},
    {1: "a"},
    {"a": {"b": [1]}},
    {"a": {"b": ["1"]}},
    Filter(),
    Filter(user_id=""),
    Filter(user_id="None"),
    Window(1),
    Window("1"),
    UUID(int=1),
    str(UUID(int=1)),
    datetime(2024, 5, 1, tzinfo=UTC),
    datetime(2024, 5, 1, tzinfo=UTC).isoformat(),
    timedelta(seconds=1),
    -0.0,
    "a, b",
    ["a", "b"],
    ["a, b"],
]


async def test_no_two_different_questions_share_an_answer() -> None:
    asked = Asked()
    answers = [await asked.ask(question) for question in QUESTIONS]
    assert answers == list(range(1, len(QUESTIONS) + 1))
    assert [await asked.ask(question) for question in QUESTIONS] == answers
    assert await asked.ask("a", "b") != await asked.ask("a, b")
    assert await asked.ask(["a"], "b") != await asked.ask("a", ["b"])


async def test_what_holds_the_same_is_the_same_question() -> None:
    asked = Asked()
    for make in (
        lambda: ["a", {"b": [1]}],
        lambda: Filter(user_id="a"),
        lambda: Window(7),
        lambda: Decimal("1.5"),
        lambda: float("nan"),
        lambda: {"b", "a"},
    ):
        assert await asked.ask(make()) == await asked.ask(make())


async def test_a_changed_argument_is_another_question() -> None:
    asked = Asked()
    wanted = Filter(user_id="a")
    assert await asked.ask(wanted) == 1
    wanted.user_id = "b"
    assert await asked.ask(wanted) == 2
    names = ["a"]
    assert await asked.ask(names) == 3
    names.append("b")
    assert await asked.ask(names) == 4


async def test_an_object_stands_for_itself_even_when_its_address_is_used_again() -> None:
    asked = Asked()
    for number in range(1, 200):
        assert await asked.ask(object()) == number
        gc.collect(0)
    client = object()
    assert await asked.ask(client) == await asked.ask(client)


async def test_an_argument_that_does_not_tell_what_it_holds_is_an_error() -> None:
    asked = Asked()
    with pytest.raises(TypeError, match="bytearray"):
        await asked.ask(bytearray(b"a"))
    assert asked.questions == []


async def test_functions_of_the_same_name_do_not_share_answers() -> None:
    def make(answer: str) -> Any:
        @cached(ttl=300)
        async def ask() -> str:
            return answer

        return ask

    assert await make("a")() == "a"
    assert await make("b")() == "b"


async def test_methods_of_different_objects_do_not_share_answers() -> None:
    class Client:
        def __init__(self, user_id: str) -> None:
            self.user_id = user_id

        @cached(ttl=300)
        async def whose(self) -> str:
            return self.user_id

    assert await Client("a").whose() == "a"
    assert await Client("b").whose() == "b"


async def test_wrong_arguments_are_the_errors_they_always_were() -> None:
    @cached(ttl=300)
    async def ask(days: int) -> int:
        return days

    with pytest.raises(TypeError, match="days"):
        await ask()  # type: ignore[call-arg]


async def test_nothing_is_an_answer_too() -> None:
    calls = []

    @cached(ttl=300)
    async def ask() -> None:
        calls.append(1)

    await ask()
    await ask()
    assert calls == [1]


async def test_an_answer_is_forgotten_when_its_time_is_up(clock: SimpleNamespace) -> None:
    asked = Asked(ttl=10)
    assert await asked.ask() == 1
    clock.now += 9.999
    assert await asked.ask() == 1
    clock.now += 0.001
    assert await asked.ask() == 2


async def test_the_time_of_an_answer_begins_when_it_is_found(clock: SimpleNamespace) -> None:
    calls = []

    @cached(ttl=timedelta(seconds=10))
    async def ask() -> int:
        clock.now += 60
        calls.append(1)
        return len(calls)

    assert await ask() == 1
    clock.now += 9
    assert await ask() == 1


@pytest.mark.parametrize(
    "ttl",
    [0, -1, float("nan"), float("inf"), True, None, "300", timedelta(0), timedelta(seconds=-1)],
)
async def test_a_time_to_live_is_above_zero(ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl"):
        cached(ttl=ttl)


async def test_only_async_functions_can_be_cached() -> None:
    def ask() -> int:
        return 1

    async def several() -> AsyncIterator[int]:
        yield 1

    for function in (ask, several):
        with pytest.raises(TypeError, match="no async function"):
            cached(ttl=1)(function)  # type: ignore[arg-type]


async def test_no_two_callers_hold_the_same_object() -> None:
    kept: list[dict[str, list[int]]] = []

    @cached(ttl=300)
    async def ask() -> dict[str, list[int]]:
        kept.append({"a": [1]})
        return kept[0]

    first, second = await asyncio.gather(ask(), ask())
    first["a"].append(2)
    second["b"] = []
    kept[0]["c"] = []
    third = await ask()
    third["a"].append(3)
    assert await ask() == {"a": [1]}
    assert len(kept) == 1


class Gate:
    """A cached function that waits until it is told to answer."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.error: Exception | None = None

        @cached(ttl=300)
        async def ask(question: str) -> str:
            self.calls += 1
            self.entered.set()
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            if self.error is not None:
                raise self.error
            return f"{question}!"

        self.ask = ask


async def test_concurrent_misses_compute_once() -> None:
    gate = Gate()
    callers = [asyncio.create_task(gate.ask(text)) for text in "ababab"]
    await gate.entered.wait()
    gate.opened.set()
    assert await asyncio.gather(*callers) == [f"{text}!" for text in "ababab"]
    assert gate.calls == 2


async def test_others_get_the_answer_when_the_first_caller_is_cancelled() -> None:
    gate = Gate()
    first = asyncio.create_task(gate.ask("a"))
    await gate.entered.wait()
    second = asyncio.create_task(gate.ask("a"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.opened.set()
    assert await second == "a!"
    assert (gate.calls, gate.cancelled) == (1, 0)


async def test_what_nobody_waits_for_is_cancelled_and_asked_anew_by_the_next() -> None:
    gate = Gate()
    callers = [asyncio.create_task(gate.ask("a")) for _ in range(3)]
    await gate.entered.wait()
    for caller in callers:
        caller.cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    gate.opened.set()
    assert await gate.ask("a") == "a!"
    assert (gate.calls, gate.cancelled) == (2, 1)


async def test_an_error_reaches_everyone_who_waits_and_is_not_kept() -> None:
    gate = Gate()
    gate.error = LookupError("not there")
    callers = [asyncio.create_task(gate.ask("a")) for _ in range(3)]
    await gate.entered.wait()
    gate.opened.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, LookupError) for outcome in outcomes)
    assert gate.calls == 1
    gate.error = None
    assert await gate.ask("a") == "a!"
    assert gate.calls == 2


async def test_what_was_asked_before_clearing_is_not_kept_after_it() -> None:
    gate = Gate()
    early = asyncio.create_task(gate.ask("a"))
    await gate.entered.wait()
    clear()
    gate.opened.set()
    assert await gate.ask("a") == "a!"
    assert await early == "a!"
    assert gate.calls == 2
    assert await gate.ask("a") == "a!"
    assert gate.calls == 2


def test_answers_outlive_an_event_loop() -> None:
    asked = Asked()
    assert asyncio.run(asked.ask("a")) == 1
    assert asyncio.run(asked.ask("a")) == 1


def test_event_loops_in_several_threads_may_ask_at_once() -> None:
    gathered: list[str] = []

    @cached(ttl=300)
    async def ask(question: int) -> str:
        await asyncio.sleep(0)
        return f"{question}!"

    async def ask_all() -> None:
        gathered.extend(await asyncio.gather(*(ask(n % 10) for n in range(50))))

    async def in_threads() -> None:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, ask_all()) for _ in range(4)))

    asyncio.run(in_threads())
    assert sorted(gathered) == sorted(f"{n % 10}!" for n in range(200))


async def test_the_least_recently_used_answers_are_dropped_first() -> None:
    asked = Asked()
    assert await asked.ask("kept") == 1
    assert await asked.ask("dropped") == 2
    for number in range(MAX_ENTRIES - 2):
        await asked.ask(number)
    assert await asked.ask("kept") == 1
    await asked.ask("one more")
    assert await asked.ask("kept") == 1
    assert await asked.ask("dropped") == MAX_ENTRIES + 2
