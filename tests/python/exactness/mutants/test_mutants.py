"""Seeded mistakes in fold and reader, each of which the tests must find.

A mutant is one plausible slip: a wrong comparison, a forgotten case. It is put into the database's
functions, the compiled SQL or the reader's text, and the same kinds of histories that the other
tests play must then fail. A mutant that survives says that a test is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from exactness.mutants.cases import (
    cases_of_the_serving_layer,
    cases_of_time_series,
    directed_cases,
    random_cases,
)
from exactness.mutants.feed_and_marts import DATABASE, MODELS, READER
from exactness.mutants.seeding import seed_mistake
from exactness.mutants.serving_layer import INCARNATION, PYTHON, SERVING
from exactness.mutants.time_series import SERIES
from exactness.serving import test_caches
from exactness.world import World
from spreading import spread

# All of them take longer than everything else: a run tries a part, and another one the next day.
DAYS = 24


@pytest.fixture
def mutated(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    seed_mistake(request.param, world, monkeypatch)
    return world


@pytest.mark.parametrize("mutated", spread(READER + DATABASE + MODELS, DAYS), indirect=True)
def test_a_seeded_mistake_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error)):  # noqa: PT012 - either set may find it
        directed_cases(mutated)
        random_cases(mutated)


@pytest.mark.parametrize("mutated", spread(SERVING + PYTHON, DAYS), indirect=True)
def test_a_seeded_mistake_in_the_serving_layer_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error, ValueError, IndexError)):  # noqa: PT012
        cases_of_the_serving_layer(mutated)
        random_cases(mutated)


@pytest.mark.parametrize("mutated", spread(SERIES, DAYS), indirect=True)
def test_a_seeded_mistake_in_a_time_series_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error, IndexError)):
        cases_of_time_series(mutated)


@pytest.mark.parametrize("mutated", INCARNATION, ids=str, indirect=True)
def test_a_cache_that_mistakes_a_copy_for_the_database_is_found(
    mutated: World, migrated_database: str, make_database: Callable[..., str]
) -> None:
    with pytest.raises(AssertionError):
        test_caches.test_a_cache_that_meets_a_copy_of_the_same_files_learns_its_keys_anew(
            migrated_database, make_database, mutated
        )


@pytest.mark.parametrize(
    "cases",
    spread(
        [directed_cases, cases_of_the_serving_layer, cases_of_time_series],
        3,
        lambda cases: cases.__name__,
    ),
)
def test_without_a_mistake_the_same_cases_pass(
    world: World, cases: Callable[[World], None]
) -> None:
    cases(world)
    random_cases(world)
