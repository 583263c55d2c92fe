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

__all__ = ["NAMES_A_DATABASE", "all_logins", "connected_settings", "names_login", "run_async"]

_LOGINS: Final = {
    Purpose.APP: "SESSION_ANALYTICS_APP_URL",
    Purpose.BUILDER: "SESSION_ANALYTICS_BUILDER_URL",
    Purpose.READER: "SESSION_ANALYTICS_READER_URL",
}
_NAMES_ONE_FOR_ALL: Final = ("DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
# Where one of these is set, the demo's local server is not what is meant.
NAMES_A_DATABASE: Final = (*_NAMES_ONE_FOR_ALL, *_LOGINS.values())
T = TypeVar("T")


@contextmanager
def connected_settings(purpose: Purpose | None = None) -> Iterator[Settings]:
    """The settings of the environment; where it names no database, those of the demo's local one.

    With the login for `purpose`, where there is one; else with the one that may do everything.

    The local server runs for as long as the command does.

    Raises:
        Failure: neither is there, or logins for other purposes are all that is named.
        SettingsError: an environment variable does not parse.
        LocalServerError: the local server does not start.
    """
    if purpose is None:
        with all_logins() as settings:
            yield settings
    else:
        with all_logins(purpose) as settings:
            yield settings.connecting_as(purpose)


@contextmanager
def all_logins(*purposes: Purpose) -> Iterator[Settings]:
    """As `connected_settings`, with every login still in its place: for work of several purposes.

    Args:
        purposes: those that have to have a login; none asks for the one for all alone.

    Raises:
        Failure: neither is there, or logins for other purposes are all that is named.
        SettingsError: an environment variable does not parse.
        LocalServerError: the local server does not start.
    """
    settings = Settings.from_environment()
    if all(names_login(settings, purpose) for purpose in purposes or (None,)):
        yield settings
        return
    if named := [name for name in _LOGINS.values() if os.environ.get(name)]:
        needed = " and ".join(_LOGINS[purpose] for purpose in purposes)
        raise Failure(
            f"no database is named for this command: set DATABASE_URL{needed and ' or '}{needed}; "
            f"{' and '.join(named)} alone {'is' if len(named) == 1 else 'are'} "
            f"{'not enough' if len(purposes) > 1 else 'for others'}"
        )

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
        yield with_logins(replace(settings, conninfo=server.conninfo(DATABASE)), server)


def names_login(settings: Settings, purpose: Purpose | None) -> bool:
    """Whether a login is named for a purpose, or one for all of them.

    Args:
        settings: those of the environment, or of the demo's database.
        purpose: None asks for the one for all alone.
    """
    named = settings.connecting_as(purpose) if purpose else settings
    return bool(named.conninfo) or any(os.environ.get(name) for name in _NAMES_ONE_FOR_ALL)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the library to its end."""
    import asyncio

    return asyncio.run(work)
