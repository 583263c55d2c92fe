"""Counting what is set aside: the fast way and the plain one agree on any JSON."""

from typing import Any

from exactness.histories import COMMON
from exactness.world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1, 2**31 - 1, 2**31, 2.0, 2.5, 1e300, 0]),
    TEXT,
    st.sampled_from(["", "x", '"', "\\", "ω" * 255, "ω" * 256]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
ARRAYS = st.lists(VALUES, max_size=6)
OBJECTS = st.dictionaries(st.one_of(TEXT, st.sampled_from(["", "a"])), VALUES, max_size=6)


def test_the_fast_count_of_set_aside_names_is_the_exploded_one(world: World) -> None:
    @settings(COMMON, max_examples=250)
    @given(ARRAYS)
    def any_array(elements: list[Any]) -> None:
        fast, exploded = world.builder.execute(
            "select analytics.set_aside_names(%(json)s), "
            "analytics.exploded_set_aside_names(%(json)s)",
            {"json": Jsonb(elements)},
        ).fetchone() or (None, None)
        assert fast == exploded

    any_array()


def test_the_fast_count_of_set_aside_counts_is_the_exploded_one(world: World) -> None:
    @settings(COMMON, max_examples=250)
    @given(OBJECTS)
    def any_object(members: dict[str, Any]) -> None:
        fast, exploded = world.builder.execute(
            "select analytics.set_aside_counts(%(json)s), "
            "analytics.exploded_set_aside_counts(%(json)s)",
            {"json": Jsonb(members)},
        ).fetchone() or (None, None)
        assert fast == exploded

    any_object()
