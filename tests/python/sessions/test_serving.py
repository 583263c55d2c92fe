"""Vectors, what a reader keeps of them, and how the parts of a window are added up.

With PostgreSQL only where it writes, or reads, the same format.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiml.sessions.figures import by_frequency, count_members, count_names
from fiml.sessions.serving import FoldedCounts, Keys, ServingCache, _sum_of

BIGINT_OID = 20
UNIT = 1 << 40
LARGE = 1 << 38


def sent(entries: Iterable[int]) -> bytes:
    """A bigint[] as PostgreSQL sends it."""
    listed = list(entries)
    if not listed:
        return struct.pack(">iii", 0, 0, BIGINT_OID)
    head = struct.pack(">iiiii", 1, 0, BIGINT_OID, len(listed), 1)
    return head + b"".join(struct.pack(">iq", 8, entry) for entry in listed)


def entries_of(key: int, n: int) -> list[int]:
    """As a fold writes them: what does not fit stands under the negative key."""
    large = (n + LARGE // 2) >> 38
    rest = n - large * LARGE
    return ([key * UNIT + rest] if rest else []) + ([-key * UNIT + large] if large else [])


class KnownKeys:
    """A connection to a database that has nothing but keys."""

    def __init__(self, *rows: tuple[int, str, str]) -> None:
        self.rows = list(rows)
        self.asked: list[int] = []

    def cursor(self, **_: object) -> KnownKeys:
        return self

    async def execute(self, _: str, parameters: list[int]) -> None:
        self.asked.append(parameters[0])

    async def fetchall(self) -> list[tuple[int, str, str]]:
        return [row for row in self.rows if row[0] > self.asked[-1]]


NAMES = [f"n{number:03}" for number in range(300)]
CONNECTION = KnownKeys(*((number + 1, "asset", name) for number, name in enumerate(NAMES)))
SUMS = {"sessions": 1}

pytestmark = pytest.mark.anyio


async def kept(counts: dict[str, int], cache: ServingCache | None = None) -> FoldedCounts:
    rows = [
        (1, sent(e for name, n in counts.items() for e in entries_of(NAMES.index(name) + 1, n)))
    ]
    found = await (cache or ServingCache()).folded(CONNECTION, "a", 1, SUMS, rows)  # type: ignore[arg-type]
    assert found is not None
    return found


# Entries ----------------------------------------------------------------------------------------

# Every carry: around the limits of a first entry, and of what 63 bits hold.
N = st.one_of(
    st.integers(-5, 5),
    st.sampled_from(
        [s * (LARGE // 2) * f + d for s in (1, -1) for f in (1, 2, 3, 4) for d in (-1, 0, 1)]
    ),
    st.integers(-(2**58), 2**58),
)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, -1]), st.lists(st.tuples(st.integers(1, 5), N), max_size=6)),
        max_size=5,
    )
)
def test_what_entries_say_is_added_up_by_key(rows: list[tuple[int, list[tuple[int, int]]]]) -> None:
    expected: Counter[int] = Counter()
    for sign, counts in rows:
        for key, n in counts:
            expected[key] += sign * n
    vector = _sum_of(
        [(sign, sent(e for key, n in counts for e in entries_of(key, n))) for sign, counts in rows]
    )
    assert {key: int(n) for key, n in enumerate(vector) if n} == {
        key: n for key, n in expected.items() if n
    }


def test_the_largest_key_there_can_be_is_told_from_its_count() -> None:
    largest = (1 << 22) - 1
    vector = _sum_of([(1, sent(entries_of(largest, -1) + entries_of(largest, 2**50)))])
    assert len(vector) == largest + 1
    assert vector[largest] == 2**50 - 1
    assert not vector[:largest].any()


def test_no_rows_and_empty_rows_are_a_vector_of_nothing() -> None:
    for rows in ([], [(1, sent([]))], [(1, sent([])), (-1, sent([]))]):
        assert not _sum_of(rows).any()


def test_the_server_writes_reads_and_merges_the_same_entries(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    @settings(max_examples=200, deadline=None, database=None)
    @given(st.lists(st.tuples(st.integers(1, 4), N), max_size=12))
    def any_counts(counts: list[tuple[int, int]]) -> None:
        expected: Counter[int] = Counter()
        for key, n in counts:
            expected[key] += n
        exact = {key: n for key, n in expected.items() if n}
        entries = [e for key, n in counts for e in entries_of(key, n)]
        with database.cursor(binary=True) as cursor:
            row = cursor.execute(
                "select serving.merged(%(e)s::bigint[]), "
                "array_send(serving.merged(%(e)s::bigint[])), array_send(%(e)s::bigint[]), "
                "(select jsonb_object_agg(summed.key_id, summed.n) from ("
                "select key_id, sum(n) as n from serving.decoded(%(e)s::bigint[]) "
                "group by key_id having sum(n) <> 0) as summed)",
                {"e": entries},
            ).fetchone()
        assert row is not None
        merged, merged_bytes, raw_bytes, decoded = row
        assert {int(key): n for key, n in (decoded or {}).items()} == exact
        # One of each kind for a key, in order, and nothing for zero.
        assert merged == sorted(e for key, n in exact.items() for e in entries_of(key, n))
        for content in (merged_bytes, raw_bytes):
            vector = _sum_of([(1, bytes(content))])
            assert {key: int(n) for key, n in enumerate(vector) if n} == exact

    any_counts()


# Names and their order --------------------------------------------------------------------------


def expected_top(counts: dict[str, int], changes: dict[str, int]) -> list[tuple[str, int]]:
    after = Counter(counts)
    for name, n in changes.items():
        after[name] += n
    found = [(name, n) for name, n in after.items() if n]
    return sorted(found, key=lambda item: (-item[1], item[0].encode()))


COUNTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=300)


@settings(deadline=None)
@given(COUNTS, st.dictionaries(st.sampled_from([*NAMES[:100], "new", "é"]), st.integers(-3, 4)))
async def test_the_most_frequent_are_those_of_a_full_count_whatever_changes(
    counts: dict[str, int], changes: dict[str, int]
) -> None:
    changes = {name: max(n, -counts.get(name, 0)) for name, n in changes.items()}
    folded = await kept(counts)
    for given_changes in (changes, {}, changes):
        expected = expected_top(counts, given_changes)
        assert folded.most_frequent_with("asset", given_changes) == expected[:10]
        assert folded.all_with("asset", given_changes) == expected


@pytest.mark.parametrize("number", [9, 10, 11, 63, 64, 65, 66, 300])
async def test_equally_frequent_names_are_ordered_by_bytes_however_many_they_are(
    number: int,
) -> None:
    folded = await kept(dict.fromkeys(reversed(NAMES[:number]), 7))
    assert folded.most_frequent_with("asset", {}) == [(name, 7) for name in NAMES[:number][:10]]
    # The first falls, and one that was behind comes up.
    found = folded.most_frequent_with("asset", {NAMES[0]: -7})
    assert found == [(name, 7) for name in NAMES[1:number][:10]]


async def test_one_kind_is_not_mistaken_for_another() -> None:
    connection = KnownKeys((1, "asset", "x"), (2, "tag", "x"), (3, "query_type", "x"))
    rows = [(1, sent([UNIT + 5, 2 * UNIT + 6, 3 * UNIT + 7]))]
    found = await ServingCache().folded(connection, "a", 1, SUMS, rows)  # type: ignore[arg-type]
    assert found is not None
    assert [
        found.all_with(kind, {}) for kind in ("asset", "tag", "query_type", "session_type")
    ] == [
        [("x", 5)],
        [("x", 6)],
        [("x", 7)],
        [],
    ]


def test_names_that_occur_are_ordered_by_count_and_then_by_bytes() -> None:
    assert by_frequency({"b": 1, "a": 1, "é": 1, "Z": 1, "none": 0, "top": 2}) == [
        ("top", 2),
        ("Z", 1),
        ("a", 1),
        ("b", 1),
        ("é", 1),
    ]


# What is kept -----------------------------------------------------------------------------------


async def test_keys_are_asked_for_when_a_vector_names_one_that_is_new_and_no_sooner() -> None:
    connection = KnownKeys((1, "asset", "a"))
    cache = ServingCache()

    async def fold(*keys: int) -> FoldedCounts | None:
        rows = [(1, sent([key * UNIT + 1 for key in keys]))]
        return await cache.folded(connection, "a", 1, SUMS, rows)  # type: ignore[arg-type]

    assert await fold(1) is not None
    assert await fold(1) is not None
    assert connection.asked == [0]
    # 2 was given to a name in a fold that failed.
    connection.rows.append((3, "asset", "c"))
    found = await fold(1, 3)
    assert found is not None
    assert found.all_with("asset", {}) == [("a", 1), ("c", 1)]
    assert connection.asked == [0, 1]
    # What nobody knows cannot be told.
    assert await fold(2) is None
    assert await fold(9) is None


async def test_another_incarnation_s_keys_are_learned_anew_and_what_was_kept_is_forgotten() -> None:
    cache = ServingCache()
    windows = [(None, "equity", days) for days in (1, 2)]
    for incarnation, name in (("a", "x"), ("b", "y"), ("a", "x")):
        connection = KnownKeys((1, "asset", name))
        for window in windows:
            rows = [(1, sent([UNIT + 1]))]
            found = await cache.folded(connection, incarnation, 1, SUMS, rows)  # type: ignore[arg-type]
            assert found is not None
            cache.keep(window, found)
            assert found.all_with("asset", {}) == [(name, 1)]
            assert cache.kept(window) is found
            if window == windows[0]:
                assert cache.kept(windows[1]) is None
        assert connection.asked == [0]


async def test_the_windows_asked_for_last_are_kept_and_no_more_of_them() -> None:
    cache = ServingCache()
    for days in range(1, 301):
        kept = await cache.folded(CONNECTION, "a", days, SUMS, [])  # type: ignore[arg-type]
        assert kept is not None
        cache.keep((None, None, days), kept)
    assert cache.kept((None, None, 44)) is None
    found = cache.kept((None, None, 45))
    assert found is not None
    assert found.etag == 45
    cache.clear()
    assert cache.kept((None, None, 300)) is None


def test_keys_that_are_learned_twice_are_known_once() -> None:
    keys = Keys("a")
    assert keys.names == [""]
    assert keys.explain(_sum_of([]))
    assert not keys.explain(_sum_of([(1, sent([UNIT + 1]))]))


# JSON -------------------------------------------------------------------------------------------

CLEAN_NAMES = st.lists(st.lists(st.text(min_size=1, max_size=255)))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(CLEAN_NAMES)
def test_clean_names_are_counted_here(documents: list[list[str]]) -> None:
    expected = Counter(name for names in documents for name in names)
    assert count_names(json.dumps(documents)) == expected


@given(st.lists(st.one_of(ANYTHING, st.lists(st.text(min_size=1)))))
def test_names_are_counted_here_or_left_to_the_server_but_never_wrongly(
    documents: list[Any],
) -> None:
    found = count_names(json.dumps(documents))
    is_clean = all(
        isinstance(names, list)
        and all(isinstance(name, str) and 1 <= len(name) <= 255 for name in names)
        for names in documents
    )
    assert (found is not None) is is_clean


@given(st.lists(st.one_of(ANYTHING, st.dictionaries(st.text(min_size=1), st.integers(0, 2**32)))))
def test_members_are_counted_here_or_left_to_the_server_but_never_wrongly(
    documents: list[Any],
) -> None:
    found = count_members(json.dumps(documents))
    is_clean = all(
        isinstance(members, dict)
        and all(
            1 <= len(name) <= 255 and type(count) is int and 1 <= count <= 2**31 - 1
            for name, count in members.items()
        )
        for members in documents
    )
    assert (found is not None) is is_clean
    if found is not None:
        expected: Counter[str] = Counter()
        for members in documents:
            expected.update(members)
        assert found == expected


@pytest.mark.parametrize(
    "document",
    [
        "[[" + "9" * 5000 + "]]",
        "[" * 5000 + "]" * 5000,
        "[[1e400]]",
        '[["' + "x" * 256 + '"]]',
        '[[""]]',
        "[null]",
        '[{"x": 1}]',
        "[[[]]]",
    ],
)
def test_what_is_no_name_is_left_to_the_server(document: str) -> None:
    assert count_names(document) is None


@pytest.mark.parametrize(
    "document",
    [
        '[{"x": ' + "9" * 5000 + "}]",
        '[{"x": 1.0}]',
        '[{"x": 0}]',
        '[{"x": true}]',
        '[{"x": 2147483648}]',
        '[{"": 1}]',
        "[[]]",
        "[null]",
        "[" * 5000 + "]" * 5000,
    ],
)
def test_what_is_no_count_is_left_to_the_server(document: str) -> None:
    assert count_members(document) is None


def test_no_documents_count_nothing() -> None:
    assert count_names(None) == count_members(None) == Counter()
