"""A world of its own for each test, as in the tests of exactness."""

from collections.abc import Iterator

import pytest
from exactness.world import World

from fiml.warehouse.project import Mart


@pytest.fixture
def world(migrated_database: str, marts: tuple[Mart, ...]) -> Iterator[World]:
    world = World(migrated_database, marts)
    yield world
    world.close()
