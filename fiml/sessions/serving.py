"""The reader's side of the serving layer: vectors of counts, decoded once and kept while they hold.

A vector says how often each key counts in a stretch of time (fiml/sessions/migrations/
0006_serving.sql). The rows that make up a window change with a fold; until then the database
answers "as you have it" to the etag that came with them, in the snapshot of the read itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fiml.database import Connection
from fiml.sessions.figures import MOST_FREQUENT, Counts, by_frequency, most_frequent

__all__ = ["FoldedCounts", "ServingCache", "WindowKey"]

# user id, session type, days
WindowKey = tuple[str | None, str | None, int]

_KEYS: Final = "select key_id, kind, name from serving.keys where key_id > %s order by key_id"
# Kinds that are no names: see `Keys.explain`.
_NAMELESS: Final = frozenset({"forgotten", "overflow"})
# Windows whose folded part is kept, and the most bytes of their vectors: with five thousand symbols
# one has 40 kB, with two hundred thousand 1.6 MB.
_KEPT_WINDOWS: Final = 256
_KEPT_BYTES: Final = 64 * 1024**2
# How many of the most frequent names are kept in order. A read that moves one past the last of
# these looks at all of them.
_LEADERS: Final = 64

# bigint[] as PostgreSQL sends it: a header, and before each element its length.
_HEADER_BYTES: Final = 20
_ELEMENT: Final = np.dtype([("length", ">i4"), ("entry", ">i8")])

Vector = np.ndarray[Any, np.dtype[np.int64]]


class Keys:
    """What each key counts. Keys are only ever added, by one incarnation of a database.

    A key whose name was forgotten counts nothing, in any vector as new as the forgetting. The key
    of the overflow counts names that have none: what they are the marts know.
    """

    def __init__(self, incarnation: str | None = None) -> None:
        """Empty; fetched when a vector names a key that is not known."""
        self.incarnation = incarnation
        self.names: list[str] = [""]
        self.ids_by_kind: dict[str, list[int]] = {}
        self.ids: dict[tuple[str, str], int] = {}
        self.nameless = [0]
        self._arrays: dict[str, Vector] = {}

    async def fetch(self, connection: Connection) -> None:
        """Learn the keys that came since."""
        cursor = connection.cursor(binary=True)
        await cursor.execute(_KEYS, [len(self.names) - 1])
        for key_id, kind, name in await cursor.fetchall():
            # Another read may have learned it meanwhile.
            if key_id < len(self.names):
                continue
            # No fold leaves one out; what somebody took out must not move the names of the others.
            self.nameless.extend(range(len(self.names), key_id))
            self.names.extend("" for _ in range(key_id - len(self.names)))
            if kind in _NAMELESS:
                self.names.append("")
                self.nameless.append(key_id)
                continue
            self.names.append(name)
            self.ids_by_kind.setdefault(kind, []).append(key_id)
            self.ids[kind, name] = key_id

    def occurring(self, kind: str, vector: Vector) -> tuple[Vector, Vector]:
        """The keys of a kind that count something in the vector, ascending, and what they count."""
        known = self.ids_by_kind.get(kind, [])
        ids = self._arrays.get(kind)
        if ids is None or len(ids) < len(known):
            ids = self._arrays[kind] = np.array(known, dtype=np.int64)
        ids = ids[: np.searchsorted(ids, len(vector))]
        counts = vector[ids]
        occurs = counts != 0
        return ids[occurs], counts[occurs]

    def explain(self, vector: Vector) -> bool:
        """Whether every key that the vector counts has a name."""
        width = len(vector)
        return width <= len(self.names) and not any(
            vector[key_id] for key_id in self.nameless if key_id < width
        )


@dataclass(frozen=True, slots=True)
class Leaders:
    """The most frequent names of a kind, in order.

    Attributes:
        counts: of at most `_LEADERS` names.
        limit: no name that is not among them counts more than this; 0 where there is none.
    """

    counts: Counts
    limit: int


class FoldedCounts:
    """The folded part of one window: immutable, and true while its etag is."""

    def __init__(
        self,
        etag: int | None,
        rows: int,
        sums: Mapping[str, int],
        vector: Vector,
        keys: Keys,
    ) -> None:
        """Take over sums, and a vector by key, that were added up from so many rows."""
        self.etag = etag
        self.rows = rows
        self._vector = vector
        self._keys = keys
        self.sums = sums
        self._all: dict[str, Counts] = {}
        self._leaders: dict[str, Leaders] = {}

    @property
    def size(self) -> int:
        """Bytes of its vector."""
        return self._vector.nbytes

    def all_with(self, kind: str, changes: Mapping[str, int]) -> Counts:
        """All names of a kind with their counts, after changes."""
        if kind not in self._all:
            self._all[kind] = by_frequency(self._named(*self._occurring(kind)))
        if not changes:
            return self._all[kind]
        counts = dict(self._all[kind])
        for name, n in changes.items():
            counts[name] = counts.get(name, 0) + n
        return by_frequency(counts)

    def most_frequent_with(self, kind: str, changes: Mapping[str, int]) -> Counts:
        """The ten most frequent names of a kind, after changes."""
        leaders = self._leaders.get(kind)
        if leaders is None:
            leaders = self._leaders[kind] = self._find_leaders(kind)
        found = leaders.counts[:MOST_FREQUENT]
        if changes:
            counts = dict(leaders.counts)
            for name, n in changes.items():
                counts[name] = self.count(kind, name) + n
            found = most_frequent(counts)
        # A name that is neither a leader nor changed may be as frequent as the limit.
        if leaders.limit and (len(found) < MOST_FREQUENT or found[-1][1] <= leaders.limit):
            return self._most_frequent_of_all(kind, changes)
        return found

    def count(self, kind: str, name: str) -> int:
        """How often one name counts."""
        key_id = self._keys.ids.get((kind, name))
        return 0 if key_id is None or key_id >= len(self._vector) else int(self._vector[key_id])

    def _occurring(self, kind: str) -> tuple[Vector, Vector]:
        return self._keys.occurring(kind, self._vector)

    def _named(self, ids: Vector, counts: Vector) -> Iterable[tuple[str, int]]:
        names = self._keys.names
        return zip([names[key_id] for key_id in ids.tolist()], counts.tolist(), strict=True)

    def _find_leaders(self, kind: str) -> Leaders:
        ids, counts = self._occurring(kind)
        limit = 0
        if len(ids) > _LEADERS:
            chosen = np.argpartition(counts, -_LEADERS)[-_LEADERS:]
            ids, counts = ids[chosen], counts[chosen]
            limit = int(counts.min())
        return Leaders(by_frequency(self._named(ids, counts)), limit)

    def _most_frequent_of_all(self, kind: str, changes: Mapping[str, int]) -> Counts:
        ids, counts = self._occurring(kind)
        changed = [self._keys.ids.get((kind, name), 0) for name in changes]
        is_unchanged = np.isin(ids, changed, invert=True)
        ids, counts = ids[is_unchanged], counts[is_unchanged]
        if len(ids) > MOST_FREQUENT:
            # Of what did not change, nothing below the tenth is among the first ten.
            may_be = counts >= np.partition(counts, -MOST_FREQUENT)[-MOST_FREQUENT]
            ids, counts = ids[may_be], counts[may_be]
        after = {name: n + self.count(kind, name) for name, n in changes.items()}
        return most_frequent(after | dict(self._named(ids, counts)))


class ServingCache:
    """The folded parts of the windows that were asked for last."""

    def __init__(self) -> None:
        """Empty."""
        self._keys = Keys()
        self._windows: OrderedDict[WindowKey, FoldedCounts] = OrderedDict()

    def kept(self, window: WindowKey) -> FoldedCounts | None:
        """What is kept of a window, if anything is."""
        return self._windows.get(window)

    def clear(self) -> None:
        """Forget everything: the next read is a new process's first."""
        self._keys = Keys()
        self._windows.clear()

    def keep(self, window: WindowKey, counts: FoldedCounts) -> None:
        """Keep the folded part of a window, and of the windows that were asked for last."""
        self._windows[window] = counts
        self._windows.move_to_end(window)
        size = sum(kept.size for kept in self._windows.values())
        while len(self._windows) > _KEPT_WINDOWS or (size > _KEPT_BYTES and len(self._windows) > 1):
            _, oldest = self._windows.popitem(last=False)
            size -= oldest.size

    async def folded(
        self,
        connection: Connection,
        incarnation: str | None,
        etag: int | None,
        sums: Mapping[str, int],
        rows: Sequence[tuple[int, bytes]],
    ) -> FoldedCounts | None:
        """What rows of the layer (sums, signs and entries) add up to.

        `None` where they count what has no name here: more names than the layer has keys for, or
        it is not the layer that this module reads.
        """
        if incarnation != self._keys.incarnation:
            self._windows.clear()
            self._keys = Keys(incarnation)
        keys = self._keys
        vector = _sum_of(rows)
        if len(vector) > len(keys.names):
            await keys.fetch(connection)
        if not keys.explain(vector):
            return None
        return FoldedCounts(etag, len(rows), sums, vector, keys)


def _sum_of(rows: Sequence[tuple[int, bytes]]) -> Vector:
    parts = [
        np.frombuffer(entries, dtype=_ELEMENT, offset=_HEADER_BYTES)["entry"].astype(np.int64)
        for _, entries in rows
        if len(entries) > _HEADER_BYTES
    ]
    signs = [sign for sign, entries in rows if len(entries) > _HEADER_BYTES]
    if not parts:
        return np.zeros(1, dtype=np.int64)
    entries = np.concatenate(parts)
    weights = np.repeat(np.array(signs, dtype=np.int64), [len(part) for part in parts])
    # key * 2^40 + n, |n| < 2^39; under a negative key, n counts 2^38 each.
    keys = (entries + (1 << 39)) >> 40
    counts = (entries - (keys << 40)) * weights
    counts = np.where(keys < 0, counts << 38, counts)
    keys = np.abs(keys)
    vector = np.zeros(int(keys.max()) + 1, dtype=np.int64)
    np.add.at(vector, keys, counts)
    return vector
