"""How often and how much at once, with a clock of the test's own."""

from contextlib import ExitStack

import pytest

from fiml.errors import LimitExceededError
from fiml.identity.limits import Limits


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def call(limits: Limits, subject: str = "a") -> None:
    with limits.admitted(subject):
        pass


def test_a_burst_is_admitted_and_then_the_rate_holds() -> None:
    clock = Clock()
    limits = Limits(per_minute=30, burst=3, concurrent=1, clock=clock)
    for _ in range(3):
        call(limits)
    with pytest.raises(LimitExceededError, match="try again in 2 s") as refusal:
        call(limits)
    assert refusal.value.retry_after_seconds == 2
    # A refusal costs nothing, and nobody else.
    for _ in range(100):
        with pytest.raises(LimitExceededError):
            call(limits)
    call(limits, "b")
    clock.seconds += 2
    call(limits)
    with pytest.raises(LimitExceededError):
        call(limits)
    # A long pause earns a burst, and no more.
    clock.seconds += 86_400
    for _ in range(3):
        call(limits)
    with pytest.raises(LimitExceededError):
        call(limits)


def test_no_more_than_so_many_are_under_way_however_they_end() -> None:
    limits = Limits(per_minute=60, burst=1000, concurrent=2, clock=Clock())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(limits.admitted("a"))
        with pytest.raises(LimitExceededError, match="2 calls of yours are under way") as refusal:
            call(limits)
        assert refusal.value.retry_after_seconds is None
        call(limits, "b")
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), limits.admitted("a"):
            raise ZeroDivisionError
    call(limits)


def test_identities_that_came_and_went_take_no_memory() -> None:
    clock = Clock()
    limits = Limits(per_minute=60, burst=10, concurrent=2, clock=clock)
    with limits.admitted("stays"):
        for number in range(20_000):
            call(limits, str(number))
            clock.seconds += 1
        assert len(limits._buckets) <= 1025
        assert limits._buckets["stays"].under_way == 1


def test_many_at_once_are_kept_until_they_may_be_forgotten() -> None:
    clock = Clock()
    limits = Limits(per_minute=1, burst=1, concurrent=1, clock=clock)
    for number in range(5000):
        call(limits, str(number))
    for number in range(5000):
        with pytest.raises(LimitExceededError):
            call(limits, str(number))
    clock.seconds += 60
    for number in range(5000, 20_000):
        call(limits, str(number))
    assert len(limits._buckets) <= 16_384
