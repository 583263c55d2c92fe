"""A database made from the documented statements."""

from collections.abc import Iterator

import pytest
from migrations.ground import DOCUMENTED_DDL, Connection, connected


@pytest.fixture
def documented(empty_database: str) -> Iterator[Connection]:
    """A database made from the documented DDL."""
    with connected(empty_database) as connection:
        connection.execute(DOCUMENTED_DDL.encode())
        yield connection
