"""A small history, and runs in databases of their own."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.database import PREFIX
from benchmarks.database import Server as BenchmarkServer


@pytest.fixture
def benchmark_server(server: Any) -> BenchmarkServer:
    """The tests' server, as the benchmarks know one."""
    return BenchmarkServer(server.maintenance_conninfo, "the tests' server")


@pytest.fixture
def database_name(server: Any) -> Iterator[str]:
    """A name that no other test uses; the database is dropped where a failed test left it."""
    name = f"{PREFIX}test_{uuid.uuid4().hex}"
    yield name
    server.drop_database(name)


@pytest.fixture
def has_database(server: Any) -> Callable[[str], bool]:
    """Whether there is a database of that name."""

    def has(name: str) -> bool:
        with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
            found = connection.execute("select from pg_database where datname = %s", [name])
            return found.fetchone() is not None

    return has
