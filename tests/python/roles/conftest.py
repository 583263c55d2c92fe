"""Installations with roles, on the test run's server and on each PostgreSQL that is here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from roles.installation import Installation, drop_roles, installed
from spreading import spread

from fiml.errors import LocalServerError
from fiml.local_server import local_server, remove_local_server
from fiml.local_server._binaries import CHOICE_VARIABLE, find_binaries


@pytest.fixture(scope="module")
def installation(server: Any) -> Iterator[Installation]:
    """A database of the module's own, with a login for each role."""
    name = server.create_database()
    try:
        with installed(server.conninfo(name)) as made:
            yield made
    finally:
        server.drop_database(name)
        with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
            drop_roles(connection, name)


def _is_here(source: str) -> bool:
    try:
        return bool(find_binaries(source))
    except LocalServerError:
        return False


SOURCES = [source for source in ("system", "embedded") if _is_here(source)]


@pytest.fixture(scope="module", params=spread(SOURCES, len(SOURCES)))
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The superuser's conninfo of a cluster of its own, of each version that is here."""
    folder = Path(tmp_path_factory.mktemp("cluster")) / "server"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CHOICE_VARIABLE, request.param)
        with local_server(folder, durable=False) as server:
            yield server.conninfo()
    remove_local_server(folder)
