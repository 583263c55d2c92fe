"""A world for each test, on a database that was migrated once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from exactness.restoring import dump_and_restore
from exactness.world import World

from fiml.local_server import local_server, remove_local_server
from fiml.warehouse.project import Mart


@pytest.fixture
def world(migrated_database: str, marts: tuple[Mart, ...]) -> Iterator[World]:
    world = World(migrated_database, marts)
    yield world
    world.close()


@pytest.fixture(params=["the same cluster", "another cluster"])
def copy_database(
    request: pytest.FixtureRequest,
    world: World,
    make_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], World]]:
    """Dumps the world's database and restores it into an empty one, here or in another cluster."""
    with ExitStack() as stack:

        def copy() -> World:
            if request.param == "the same cluster":
                target = make_database()
            else:
                home = Path(tmp_path_factory.mktemp("another"))
                # Its data may lie elsewhere, where the server's user can reach it.
                stack.callback(remove_local_server, home / "server")
                server = stack.enter_context(local_server(home / "server", durable=False))
                target = server.conninfo("postgres")
            dump_and_restore(world.conninfo, target)
            copied = World(target, tuple(world.marts.values()))
            stack.callback(copied.close)
            return copied

        yield copy
