"""A world of its own for each test, as in the tests of exactness, or a database with bystanders."""

from collections.abc import Iterator

import psycopg
import pytest
from exactness.world import World
from hostile.bystanders import OTHERS, Connection

from fiml.warehouse.project import Mart


@pytest.fixture
def world(migrated_database: str, marts: tuple[Mart, ...]) -> Iterator[World]:
    world = World(migrated_database, marts)
    yield world
    world.close()


@pytest.fixture
def database(migrated_database: str) -> Iterator[Connection]:
    """Every other user has three sessions with metrics, and two that are open."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, assets_analyzed, tags) select gen_random_uuid(), user_id, 'equity', "
            "now() - interval '1 h', 60, '[\"OTHER\"]', '[\"other\"]' "
            "from unnest(%s::text[]) as user_id, generate_series(1, 3)",
            [list(OTHERS)],
        )
        connection.execute(
            "insert into sessions (id, user_id, type, created_at, expires_at) "
            "select gen_random_uuid(), user_id, 'equity', now() - interval '1 h', '2999-01-01' "
            "from unnest(%s::text[]) as user_id, generate_series(1, 2)",
            [list(OTHERS)],
        )
        yield connection
