"""Which database a command works on."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from fiml.cli._group import Failure
from fiml.settings import Settings

__all__ = ["connected_settings", "run_async"]

_NAMES_A_DATABASE: Final = ("DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
T = TypeVar("T")


@contextmanager
def connected_settings() -> Iterator[Settings]:
    """The settings of the environment; where it names no database, those of the demo's local one.

    The local server runs for as long as the command does.

    Raises:
        Failure: neither is there.
        SettingsError: an environment variable does not parse.
        LocalServerError: the local server does not start.
    """
    settings = Settings.from_environment()
    if any(os.environ.get(name) for name in _NAMES_A_DATABASE):
        yield settings
        return

    from fiml.demo._database import DATABASE, is_finished
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
        yield replace(settings, conninfo=server.conninfo(DATABASE))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the library to its end."""
    import asyncio

    return asyncio.run(work)
