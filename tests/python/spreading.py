"""What takes too long for one run is spread over several days; `make test-long` runs all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar
from zlib import crc32

import pytest

__all__ = ["every", "spread"]

Test = TypeVar("Test", bound=Callable[..., Any])

# Of the run: the workers of pytest-xdist inherit it, and so agree.
_TODAY = int(
    os.environ.setdefault("SESSION_ANALYTICS_TEST_DAY", str(datetime.now(UTC).toordinal()))
)


def spread(values: Iterable[Any], days: int, name: Callable[[Any], str] = str) -> list[Any]:
    """All values as parameters of a test; those of another day are for the long run.

    Args:
        values: in an order that does not change; a tuple is several arguments.
        days: over how many they are spread.
        name: makes the name of a value.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            id=name(value),
            marks=[] if number % days == _TODAY % days else [pytest.mark.long],
        )
        for number, value in enumerate(values)
    ]


def every(days: int) -> Callable[[Test], Test]:
    """A test that is run on one of so many days, and in the long run; which day its name says."""

    def mark(test: Test) -> Test:
        number = crc32(f"{test.__module__}.{test.__name__}".encode())
        return test if number % days == _TODAY % days else pytest.mark.long(test)

    return mark
