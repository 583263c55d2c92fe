"""A connection for one piece of work on the marts, with the version checked and errors typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from fiml.database import typed_error as typed_error
from fiml.errors import SchemaVersionError
from fiml.sessions.migrations import MIGRATIONS, installed_version
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
            version = installed_version(connection)
            if version != MIGRATIONS[-1].version:
                remedy = (
                    "run `session-analytics migrate`"
                    if version < MIGRATIONS[-1].version
                    else "install the newer session-analytics"
                )
                raise SchemaVersionError(
                    f"the database is at version {version}, this package needs "
                    f"{MIGRATIONS[-1].version}; {remedy}"
                )
            yield connection
    except psycopg.Error as error:
        raise typed_error(error) from error
