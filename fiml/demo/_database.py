"""The demo's own database: dropped and made again by every run, the only one the demo changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fiml.errors import DatabaseError

__all__ = ["DATABASE", "is_finished", "new_demo_database"]

DATABASE: Final = "session_analytics_demo"

_MARK: Final = "Sample data of session-analytics; every `session-analytics demo` makes it again."
# Until the demo has come to its end; an interrupted one leaves it.
_UNFINISHED: Final = f"{_MARK} Unfinished."
_OLDEST_SERVER: Final = 150_000
_CONNECT_SECONDS: Final = 10
# Held in the demo's database while a demo uses it; the value has no meaning.
_LOCK_KEY: Final = 7_165_839_204_412
_IS_LOCKED_BY_US: Final = f"select pg_try_advisory_lock({_LOCK_KEY})"


@contextmanager
def new_demo_database(server: str) -> Iterator[str]:
    """Make the demo database anew on a server and yield its conninfo.

    Args:
        server: conninfo of any database there; that database is connected to and not changed.

    Raises:
        DatabaseError: the server is too old, another demo is running on it, or there is a database
            of that name that no demo made.
        psycopg.Error: the server cannot be reached or refuses, for want of a privilege for one.
    """
    conninfo = make_conninfo(server, dbname=DATABASE)
    with closing(_connect_beside(server)) as connection:
        if connection.info.server_version < _OLDEST_SERVER:
            raise DatabaseError(
                f"the server is PostgreSQL {connection.info.server_version // 10_000}; "
                "session-analytics needs 15 or later"
            )
        _check_replaceable(connection, conninfo)
        database = sql.Identifier(DATABASE)
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(database))
        # template1 may be in use, which would be refused.
        connection.execute(sql.SQL("create database {} template template0").format(database))
        connection.execute(sql.SQL("comment on database {} is {}").format(database, _UNFINISHED))
    with closing(_connect(conninfo)) as connection:
        connection.execute(_IS_LOCKED_BY_US)
        yield conninfo
        connection.execute(sql.SQL("comment on database {} is {}").format(database, _MARK))


def is_finished(server: str) -> bool | None:
    """Whether the demo database of a server was made to its end; None where there is none.

    Raises:
        psycopg.Error: the server cannot be reached.
    """
    with closing(_connect(server)) as connection:
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = %s",
            [DATABASE],
        ).fetchone()
    return None if row is None else row[0] == _MARK


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    limited = make_conninfo(conninfo, connect_timeout=_CONNECT_SECONDS)
    return psycopg.connect(limited, autocommit=True)


def _connect_beside(server: str) -> psycopg.Connection[Any]:
    connection = _connect(server)
    if connection.info.dbname != DATABASE:
        return connection
    # Who points DATABASE_URL at the demo's database can still make it again.
    connection.close()
    return _connect(make_conninfo(server, dbname="postgres"))


def _check_replaceable(connection: psycopg.Connection[Any], conninfo: str) -> None:
    # A limit of -2: left over from dropping it, which was interrupted.
    existing = connection.execute(
        """
        select shobj_description(oid, 'pg_database')
        from pg_database
        where datname = %s and datconnlimit <> -2
        """,
        [DATABASE],
    ).fetchone()
    if existing is None:
        return
    with closing(_connect(conninfo)) as inside:
        if not _is_true(inside, _IS_LOCKED_BY_US):
            raise DatabaseError("another demo is running on this server; wait for it to end")
        # A run that was killed before it could mark the database left it empty.
        if existing[0] not in {_MARK, _UNFINISHED} and not _is_true(inside, _IS_EMPTY):
            raise DatabaseError(
                f"the server has a database {DATABASE} that no demo made; rename it first"
            )


_IS_EMPTY: Final = """
select not exists (
    select from pg_class
    where
        relnamespace <> 'pg_toast'::regnamespace
        and relnamespace <> all(array['pg_catalog', 'information_schema']::regnamespace [])
)
"""


def _is_true(connection: psycopg.Connection[Any], question: str) -> bool:
    row = connection.execute(question.encode()).fetchone()
    return row is not None and row[0] is True
