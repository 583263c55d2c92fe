"""A connection for one piece of work on the marts, with the version checked and errors typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from fiml.database import typed_error
from fiml.sessions.migrations import installed_version, require_current_version
from fiml.settings import Settings

__all__ = ["connected"]


@contextmanager
def connected(settings: Settings, application_name: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit to a database at this package's version.

    Raises:
        SchemaVersionError: the database is not migrated, or by another version.
        DatabaseError: the database cannot be reached, or refused a statement.
    """
    try:
        with psycopg.connect(
            make_conninfo(settings.conninfo, application_name=application_name, connect_timeout=10),
            autocommit=True,
        ) as connection:
            require_current_version(installed_version(connection))
            yield connection
    except psycopg.Error as error:
        raise typed_error(error) from error
