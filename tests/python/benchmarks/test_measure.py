"""Taking times in turns."""

from collections.abc import Callable

import pytest

from benchmarks.measure import Effort, Timing, interleaved, percentile


def subject(calls: list[str], name: str, *seconds: float) -> Callable[[], float]:
    waiting = list(seconds)

    def measured() -> float:
        calls.append(name)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return measured


def test_the_floor_takes_part_in_every_round_and_asks_for_none() -> None:
    calls: list[str] = []
    timings = interleaved(
        {"floor": subject(calls, "floor", 0.001), "slow": subject(calls, "slow", 1.0)},
        Effort(seconds=3.0, fewest=2, untimed=0),
    )
    assert timings["slow"].taken == (1.0, 1.0, 1.0)
    assert len(timings["floor"].taken) == 3


def test_a_subject_is_compared_in_the_rounds_that_both_took_part_in() -> None:
    floor = Timing((0.010, 0.010, 0.010, 0.001, 0.001, 0.001, 0.001), tuple(range(7)))
    slow = Timing((1.0, 1.0, 1.0), (0, 1, 2))
    quick = Timing((0.002,) * 4, (3, 4, 5, 6))
    assert slow.times(floor) == pytest.approx(100)
    assert quick.times(floor) == pytest.approx(2)


def test_who_takes_longer_than_the_patience_is_measured_once() -> None:
    calls: list[str] = []
    timings = interleaved(
        {"slow": subject(calls, "slow", 60.0), "quick": subject(calls, "quick", 0.5)},
        Effort(seconds=2.0, fewest=3, patience=5.0, untimed=2),
    )
    assert timings["slow"].taken == (60.0,)
    assert calls.count("slow") == 2
    assert len(timings["quick"].taken) == 4


def test_rounds_are_bounded_and_the_first_ones_are_not_counted() -> None:
    calls: list[str] = []
    timings = interleaved(
        {"quick": subject(calls, "quick", 9.0, 0.001)}, Effort(seconds=1.0, most=10, untimed=1)
    )
    assert timings["quick"].taken == (0.001,) * 10


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 95) == 95.0
    assert percentile(values, 99) == 99.0
    assert percentile([3.0], 95) == 3.0
    assert percentile([2.0, 1.0], 50) == 1.0
