"""Sessions of sample users, as they would come: for a page to show."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from fiml.demo._database import DATABASE
from fiml.demo.catalogue import (
    COINS,
    MACRO_SERIES,
    QUERY_TYPES,
    QUERY_WEIGHTS,
    STOCKS,
    TAGS,
    TYPE_WEIGHTS,
)
from fiml.demo.history import USERS
from fiml.errors import DatabaseError, SessionAnalyticsError, SettingsError
from fiml.sessions.models import QueryRecord, SessionType
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

__all__ = ["write_sessions", "writing"]

_SECONDS_BETWEEN: Final = 2.0
_SECONDS_A_SESSION: Final = 20.0
_SECONDS_AFTER_A_FAILURE: Final = 5.0
_ANONYMOUS_SHARE: Final = 0.08
_SECONDS_TO_END: Final = 5.0

_logger = logging.getLogger(__name__)


@contextmanager
def writing(settings: Settings) -> Iterator[None]:
    """Write sessions, one every two seconds or so, for as long as this lasts.

    Raises:
        SettingsError: the database is not the demo's.
    """
    name = conninfo_to_dict(settings.conninfo).get("dbname")
    if name != DATABASE:
        raise SettingsError(
            f"sample sessions are written into the database {DATABASE} alone; run `make demo`, "
            "and name no other one"
        )
    loop = asyncio.new_event_loop()
    task = loop.create_task(write_sessions(settings, random.Random()))  # noqa: S311 - sample data

    def run() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        # Open until here, so that this can be said whether or not anybody still listens.
        loop.call_soon_threadsafe(task.cancel)
        thread.join(_SECONDS_TO_END)
        if not thread.is_alive():
            loop.close()


async def write_sessions(
    settings: Settings, rng: random.Random, *, seconds_between: float = _SECONDS_BETWEEN
) -> None:
    """Write sessions until cancelled, several of them at a time.

    Args:
        settings: the database, with a login that may write sessions.
        rng: decides who does what.
        seconds_between: from the beginning of one to that of the next, on average.
    """
    while True:
        try:
            async with SessionStore(settings) as store, asyncio.TaskGroup() as group:
                while True:
                    group.create_task(_session_or_part(store, rng))
                    await asyncio.sleep(rng.expovariate(1 / seconds_between))
        except* DatabaseError as failures:
            _logger.warning("sample sessions pause: %s", failures.exceptions[0])
        await asyncio.sleep(_SECONDS_AFTER_A_FAILURE)


async def _session_or_part(store: SessionStore, rng: random.Random) -> None:
    try:
        await _session(store, rng)
    except DatabaseError:
        # It is everybody's, and all of them pause.
        raise
    except SessionAnalyticsError as error:
        # An operator erased its user, or ended it: the others go on.
        _logger.info("a sample session ended: %s", error)


async def _session(store: SessionStore, rng: random.Random) -> None:
    kind = rng.choices(list(TYPE_WEIGHTS), list(TYPE_WEIGHTS.values()))[0]
    assets = sorted({_popular(rng, _names_of(kind)) for _ in range(rng.randint(1, 3))})
    is_known = rng.random() >= _ANONYMOUS_SHARE
    session = await store.create_session(
        assets,
        kind,
        user_id=f"analyst_{int(USERS * rng.random() ** 3) + 1:03d}" if is_known else None,
        tags=sorted({_popular(rng, TAGS) for _ in range(rng.randint(0, 3))}),
    )
    for query_type in rng.choices(QUERY_TYPES, QUERY_WEIGHTS[kind], k=rng.randint(1, 6)):
        await asyncio.sleep(rng.expovariate(5 / _SECONDS_A_SESSION))
        query = QueryRecord(
            query_type=query_type,
            parameters={"symbol": rng.choice(assets)},
            execution_time_ms=round(200 * rng.lognormvariate(0, 0.5), 1),
            cache_hit=rng.random() < 1 / 3,
        )
        await store.add_query(session.id, query)
    await store.archive_session(session.id)


def _names_of(kind: SessionType) -> tuple[str, ...]:
    return {SessionType.CRYPTO: COINS, SessionType.MACRO: MACRO_SERIES}.get(kind, STOCKS)


def _popular(rng: random.Random, names: tuple[str, ...]) -> str:
    return names[int(len(names) * rng.random() ** 3)]
