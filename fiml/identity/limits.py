"""How often, and how much at once, one identity may call: a token bucket and a counter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from fiml.errors import LimitExceededError

__all__ = ["Limits"]

_FEWEST_BEFORE_SWEEP: Final = 1024


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    under_way: int = 0


class Limits:
    """The limits of every identity, in this process.

    A bucket that is full again and in nobody's hand says nothing that a new one would not, and is
    dropped: memory is for identities of the last minutes, however many there ever were.
    """

    def __init__(
        self,
        *,
        per_minute: float,
        burst: int,
        concurrent: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Set the limits.

        Args:
            per_minute: calls in the long run.
            burst: calls at once after a pause.
            concurrent: calls under way.
            clock: seconds that never go back.
        """
        self._per_second = per_minute / 60
        self._burst = burst
        self._concurrent = concurrent
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._sweep_at = _FEWEST_BEFORE_SWEEP

    @contextmanager
    def admitted(self, subject: str) -> Iterator[None]:
        """Hold a place for one call of an identity.

        Raises:
            LimitExceededError: too many calls in the last minutes, or too many under way. It is
                refused at once, never queued.
        """
        bucket = self._bucket(subject)
        if bucket.under_way >= self._concurrent:
            raise LimitExceededError(
                f"{self._concurrent} calls of yours are under way, which is the most at once; "
                "wait for one of them"
            )
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / self._per_second
            raise LimitExceededError(f"too many calls; try again in {math.ceil(wait)} s", wait)
        bucket.tokens -= 1
        bucket.under_way += 1
        try:
            yield
        finally:
            bucket.under_way -= 1

    def _bucket(self, subject: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(subject)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep(now)
            bucket = self._buckets[subject] = _Bucket(self._burst, now)
        else:
            bucket.tokens = self._filled(bucket, now)
            bucket.filled_at = now
        return bucket

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._per_second)

    def _sweep(self, now: float) -> None:
        self._buckets = {
            subject: bucket
            for subject, bucket in self._buckets.items()
            if bucket.under_way or self._filled(bucket, now) < self._burst
        }
        # Twice what is left, so that sweeping stays a constant share of the work.
        self._sweep_at = max(_FEWEST_BEFORE_SWEEP, 2 * len(self._buckets))
