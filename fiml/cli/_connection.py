"""Which database a command works on."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from fiml.cli._group import Failure
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["connected_settings", "run_async"]

_NAMES_A_DATABASE: Final = ("DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
T = TypeVar("T")


@contextmanager
def connected_settings(purpose: Purpose | None = None) -> Iterator[Settings]:
    """The settings of the environment; where it names no database, those of the demo's local one.

    With the login for `purpose`, where there is one; else with the one that may do everything.

    The local server runs for as long as the command does.

    Raises:
        Failure: neither is there.
        SettingsError: an environment variable does not parse.
        LocalServerError: the local server does not start.
    """
    settings = Settings.from_environment()
    named = settings.connecting_as(purpose) if purpose else settings
    if named is not settings or any(os.environ.get(name) for name in _NAMES_A_DATABASE):
        yield named
        return

    from fiml.demo._database import DATABASE, is_finished
    from fiml.demo._logins import with_logins
    from fiml.local_server import has_local_data, local_server

    if not has_local_data():
        raise Failure(
            "no database is named: set DATABASE_URL, for example "
            "postgresql://user:password@host:5432/database, or run `make demo` for a local one"
        )
    with local_server() as server:
        finished = is_finished(server.conninfo())
        if finished is None:
            raise Failure(
                "no database is named, and the local server has no demo: set DATABASE_URL, or run "
                "`make demo`"
            )
        if not finished:
            raise Failure("the last demo did not come to its end: run `make demo` again")
        local = with_logins(replace(settings, conninfo=server.conninfo(DATABASE)), server)
        yield local.connecting_as(purpose) if purpose else local


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the library to its end."""
    import asyncio

    return asyncio.run(work)
