"""The eleven figures of a window, and how they are added up from the parts of an answer."""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

__all__ = [
    "MOST_FREQUENT",
    "Counts",
    "Figures",
    "Names",
    "by_frequency",
    "count_members",
    "count_names",
    "cut_below",
    "most_frequent",
]

# How many symbols and tags an answer names.
MOST_FREQUENT: Final = 10

_MAX_NAME: Final = 255
_MAX_OCCURRENCES: Final = 2**31 - 1

# Strings, brackets, and what is between them.
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|[^"\[\]{}]+')
_OPENING: Final = frozenset("[{")
_CLOSING: Final = frozenset("]}")
_BRACKETS: Final = _OPENING | _CLOSING

# So many are sorted sooner than searched.
_FEW: Final = 100

Counts = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Names:
    """Names with their counts, most frequent first.

    Attributes:
        session_types, query_types: all that occur.
        assets, tags: the ten most frequent.
    """

    session_types: Counts
    query_types: Counts
    assets: Counts
    tags: Counts


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a window, exactly.

    Attributes:
        duration_seconds: of all sessions together.
        names: None where they were not asked for.
    """

    sessions: int
    active_sessions: int
    archived_sessions: int
    queries: int
    duration_seconds: int
    abandoned_sessions: int
    names: Names | None


def by_frequency(counts: Mapping[str, int] | Iterable[tuple[str, int]]) -> Counts:
    """Names that occur, by count descending; ties by the bytes of the name."""
    items = counts.items() if isinstance(counts, Mapping) else counts
    return sorted(((name, count) for name, count in items if count), key=_place)


def most_frequent(counts: Mapping[str, int]) -> Counts:
    """The first ten of `by_frequency`."""
    if len(counts) > MOST_FREQUENT:
        # Names are compared only where they may be among them.
        least = sorted(counts.values())[-MOST_FREQUENT]
        counts = {name: count for name, count in counts.items() if count >= least}
    if len(counts) <= _FEW:
        return by_frequency(counts)[:MOST_FREQUENT]
    # As many may be equally frequent as there are.
    occurring = ((name, count) for name, count in counts.items() if count)
    return heapq.nsmallest(MOST_FREQUENT, occurring, key=_place)


def _place(counted: tuple[str, int]) -> tuple[int, bytes]:
    name, count = counted
    return -count, name.encode()


def count_names(documents: str | None) -> Counter[str] | None:
    """How often each name occurs in a JSON array of arrays of names.

    Says so only where everything in it is a name, which is nearly always; `None` leaves it to
    PostgreSQL, where one function defines what is a name and what is set aside.
    """
    if documents is None:
        return Counter()
    try:
        parsed = json.loads(documents)
        if not _are_all(list, parsed):
            return None
        counted: Counter[Any] = Counter(chain.from_iterable(parsed))
    except (ValueError, TypeError, RecursionError):
        return None
    return counted if _are_all(str, counted) and _are_names(counted) else None


def count_members(documents: str | None) -> Counter[str] | None:
    """The sums by name of a JSON array of objects of counts; `None` as `count_names` says."""
    counted: Counter[str] = Counter()
    if documents is None:
        return counted
    try:
        parsed = json.loads(documents)
    except (ValueError, RecursionError):
        return None
    for members in parsed:
        if type(members) is not dict:
            return None
        for name, count in members.items():
            if type(count) is not int or not 0 < count <= _MAX_OCCURRENCES:
                return None
            counted[name] += count
    return counted if _are_names(counted) else None


def cut_below(document: str, levels: int) -> str:
    """JSON with so many levels of arrays and objects; those below are emptied."""
    kept: list[str] = []
    depth = 0
    for token in _TOKENS.findall(document):
        depth += token in _OPENING
        if depth <= levels or (depth == levels + 1 and token in _BRACKETS):
            kept.append(token)
        depth -= token in _CLOSING
    return "".join(kept)


# Without a step of Python for each element: the largest part of what a small answer costs.


def _are_all(kind: type, elements: Iterable[object]) -> bool:
    return set(map(type, elements)) <= {kind}


def _are_names(names: Collection[str]) -> bool:
    return "" not in names and max(map(len, names), default=0) <= _MAX_NAME
