"""A database of the benchmark's own on some server: made, filled by others, dropped at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fiml.errors import DatabaseError
from fiml.local_server import local_server
from fiml.sessions.roles import drop_left_roles
from fiml.settings import Settings

__all__ = ["PREFIX", "Server", "benchmark_server", "mark_complete", "own_database"]

PREFIX: Final = "bench_"

_MARK: Final = "Generated data of session-analytics' benchmarks."
_COMPLETE: Final = f"{_MARK} Complete."


@dataclass(frozen=True, slots=True)
class Server:
    """Where databases are made.

    Attributes:
        conninfo: any database of it.
        description: for a person.
    """

    conninfo: str
    description: str


@contextmanager
def benchmark_server(given: str | None) -> Iterator[Server]:
    """The server of a URL, else the local one, which is started where it does not run.

    Raises:
        SettingsError: the URL is none of PostgreSQL.
        LocalServerError: there is no server and none can be started.
    """
    if given:
        settings = Settings.from_environment({**os.environ, "DATABASE_URL": given})
        yield Server(settings.conninfo, "the given server")
        return
    with local_server() as own:
        yield Server(own.conninfo(), f"PostgreSQL {own.version}, {own.source}, port {own.port}")


@contextmanager
def own_database(server: Server, name: str, *, is_kept: bool) -> Iterator[tuple[str, bool]]:
    """A database of that name: its conninfo, and whether it was kept by a run before.

    It is dropped at the end, also when that comes early, unless it is to be kept and its history is
    all there.

    Raises:
        DatabaseError: there is a database of that name that no benchmark made.
        psycopg.Error: the server cannot be reached or refuses.
    """
    with closing(_connect(server.conninfo)) as connection:
        mark = _mark(connection, name)
        if mark is not None and not mark.startswith(_MARK):
            raise DatabaseError(f"the server has a database {name} that no benchmark made")
        is_filled = is_kept and mark == _COMPLETE
        if not is_filled:
            _drop(connection, name)
            connection.execute(
                sql.SQL("create database {} template template0").format(sql.Identifier(name))
            )
            _comment(connection, name, _MARK)
    try:
        yield make_conninfo(server.conninfo, dbname=name), is_filled
    finally:
        with closing(_connect(server.conninfo)) as connection:
            if not (is_kept and _mark(connection, name) == _COMPLETE):
                _drop(connection, name)


def mark_complete(server: Server, name: str) -> None:
    """Remember that the history of a database is all there."""
    with closing(_connect(server.conninfo)) as connection:
        _comment(connection, name, _COMPLETE)


def _mark(connection: psycopg.Connection[Any], name: str) -> str | None:
    row = connection.execute(
        "select coalesce(shobj_description(oid, 'pg_database'), '') from pg_database "
        "where datname = %s",
        [name],
    ).fetchone()
    return None if row is None else str(row[0])


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    return psycopg.connect(make_conninfo(conninfo, connect_timeout=10), autocommit=True)


def _drop(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute(
        sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    )
    drop_left_roles(connection, name)


def _comment(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), text))
