"""Archivers that are killed, and crowds of them on one backlog."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from time import sleep
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from campaigns.campaign import Campaign
from campaigns.ground import SOMEBODY_ELSE, Ground, check_whole
from campaigns.ledger import Ledger
from campaigns.traffic import TYPES, USERS
from psycopg.types.json import Jsonb
from sessions.writes import count_metrics_writes, metrics_writes
from warehouse.application import one, wait_until

from fiml.database import Database
from fiml.sessions.archival import archive_expired
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

__all__ = ["ARCHIVER", "CROWD", "KILLED", "KILLED_BETWEEN_STEPS"]

# The first line says that it begins; each further one follows a commit, and is waited for.
ARCHIVER = """
import asyncio, sys
from fiml.database import Database
from fiml.sessions.archival import archive_expired
from fiml.settings import Settings

async def main():
    settings = Settings(
        conninfo=sys.argv[1], timeout_seconds=30, archive_connections=int(sys.argv[2])
    )
    async with Database(settings) as database:
        print("begins", flush=True)
        await archive_expired(
            database, batch_size=int(sys.argv[3]), on_progress=lambda done: print(done, flush=True)
        )

asyncio.run(main())
"""

# Where an archiver is held until it is killed: a trigger waits for a lock that the campaign holds.
_STEPS: dict[str, LiteralString] = {
    "between two sessions": "before update on sessions for each row",
    "after the sessions": "after update on sessions for each statement",
    "before the metrics": "before insert on session_metrics for each statement",
    "between two metrics": "before insert on session_metrics for each row",
    "after the metrics": "after insert on session_metrics for each statement",
    "while committing": (
        "after insert on session_metrics deferrable initially deferred for each row"
    ),
}
_GATE = 1


def _leave_expired(
    connection: psycopg.Connection[Any], ledger: Ledger, choose: Random, sessions: int
) -> list[UUID]:
    """Sessions that ended some hours ago, with queries or without; their ids."""
    rows = []
    for _ in range(sessions):
        tag, entry = ledger.open(choose.choice(USERS), choose.choice(TYPES))
        entry.session_id = UUID(int=choose.getrandbits(128), version=4)
        queries = [
            {"id": str(UUID(int=choose.getrandbits(128), version=4)), "query_type": "price"}
            for _ in range(choose.choice([0, 1, 2, 5]))
        ]
        entry.queries = {UUID(query["id"]) for query in queries}
        rows.append(
            (
                entry.session_id,
                entry.user_id,
                entry.session_type,
                Jsonb(choose.sample(["AAPL", "TSLA", "Ω"], choose.randint(0, 3))),
                Jsonb([tag]),
                choose.uniform(3600, 86_400 * 20),
                Jsonb(queries),
            )
        )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into sessions (id, user_id, type, assets, tags, created_at, expires_at, "
            "query_history) select id, user_id, type, assets, tags, began, "
            "began + interval '30 minutes', queries from (select %s::uuid, %s, %s, %s::jsonb, "
            "%s::jsonb, now() - make_interval(secs => %s), %s::jsonb) as "
            "given (id, user_id, type, assets, tags, began, queries)",
            rows,
        )
    return [row[0] for row in rows]


def _archiver(conninfo: str, connections: int, batch: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ARCHIVER, conninfo, str(connections), str(batch)],
        stdout=subprocess.PIPE,
        text=True,
    )


def _check(conninfo: str, ground: Ground, ledger: Ledger) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        # What is there now is whole already, though not finished.
        ledger.check(connection)
    check_whole(conninfo, ground.marts, ledger, USERS)
    with psycopg.connect(conninfo) as connection:
        writes = metrics_writes(connection)
    assert set(writes.values()) == {1}
    assert len(writes) == len(ledger)


def _kill_at_random(ground: Ground, choose: Random) -> Counter[str]:
    ledger = Ledger()
    with ground.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            count_metrics_writes(connection)
            _leave_expired(connection, ledger, choose, 250)
            with _archiver(
                conninfo, choose.choice([1, 2, 3]), choose.choice([1, 2, 5])
            ) as archiver:
                assert archiver.stdout is not None
                assert archiver.stdout.readline() == "begins\n"
                sleep(choose.uniform(0, 0.15))
                archiver.kill()
            archived = one(connection, "select count(*) from sessions where is_archived")
        _check(conninfo, ground, ledger)
    return Counter({f"killed {'before' if archived < len(ledger) else 'after'} the end": 1})


def _kill_between_steps(ground: Ground, choose: Random) -> Counter[str]:
    ledger, step = Ledger(), choose.choice(list(_STEPS))
    with ground.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            count_metrics_writes(connection)
            ids = _leave_expired(connection, ledger, choose, 60)
            with _gate(connection, conninfo, _STEPS[step], choose.choice(ids)):
                with _archiver(conninfo, choose.choice([1, 2]), choose.choice([5, 20])) as archiver:
                    wait_until(connection, f"exists ({SOMEBODY_ELSE} and wait_event = 'advisory')")
                    archiver.kill()
                assert one(connection, "select count(*) from sessions where not is_archived") > 0
            # The server's half goes on from the gate, and meets the end of its client.
            wait_until(connection, f"not exists ({SOMEBODY_ELSE})")
            connection.execute("drop trigger gate on " + _table(_STEPS[step]))
        _check(conninfo, ground, ledger)
    return Counter({step: 1})


@contextmanager
def _gate(
    connection: psycopg.Connection[Any], conninfo: str, moment: LiteralString, session_id: UUID
) -> Iterator[None]:
    """Hold whoever comes to that moment, with that session where it is one of rows."""
    column = "id" if "sessions for" in moment else "session_id"
    condition = f"when (new.{column} = {{}})" if moment.endswith("row") else ""
    connection.execute(
        f"create function gate() returns trigger language plpgsql as "
        f"$$ begin perform pg_advisory_xact_lock_shared({_GATE}); "
        "return coalesce(new, old); end $$".encode()
    )
    connection.execute(
        psycopg.sql.SQL(
            "create " + ("constraint " if "deferrable" in moment else "") + "trigger gate "
            f"{moment} {condition} execute function gate()"  # type: ignore[arg-type]
        ).format(str(session_id))
    )
    with psycopg.connect(conninfo, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(%s)", [_GATE])
        yield


def _table(moment: str) -> LiteralString:
    return "session_metrics" if "session_metrics" in moment else "sessions"


def _crowd(ground: Ground, choose: Random) -> Counter[str]:
    """Archivers of both kinds at once: of the whole backlog, and of single sessions in it."""
    ledger, archivers = Ledger(), choose.choice([2, 8, 32])
    with ground.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            count_metrics_writes(connection)
            ids = _leave_expired(connection, ledger, choose, 1_000)
        by_hand = choose.sample(ids, 200)
        archived = asyncio.run(_archive_from_all_sides(conninfo, archivers, by_hand, choose))
        assert archived == len(ledger)
        _check(conninfo, ground, ledger)
    return Counter({f"{archivers} archivers": 1, "sessions": len(ledger)})


async def _archive_from_all_sides(
    conninfo: str, archivers: int, by_hand: list[UUID], choose: Random
) -> int:
    settings = Settings(
        conninfo=conninfo, timeout_seconds=60, pool_size=archivers + 4, archive_connections=1
    )
    numbers = count()

    async with Database(settings) as database, SessionStore(settings) as store:

        async def archive() -> int:
            batch = choose.choice([1, 7, 50, 200])
            return (await archive_expired(database, batch_size=batch)).archived

        async def archive_one_by_one() -> int:
            done = 0
            while (number := next(numbers)) < len(by_hand):
                done += await store.archive_session(by_hand[number])
            return done

        return sum(
            await asyncio.gather(
                *(archive() for _ in range(archivers)), *(archive_one_by_one() for _ in range(4))
            )
        )


KILLED = Campaign(
    name="archiver-killed",
    disturbance="`kill -9` of an archiver at random points",
    play=_kill_at_random,
    rounds=600,
    short=15,
)
KILLED_BETWEEN_STEPS = Campaign(
    name="archiver-killed-between-steps",
    disturbance="`kill -9` of an archiver between two named steps of its transaction",
    play=_kill_between_steps,
    rounds=400,
    short=15,
)
CROWD = Campaign(
    name="archiver-crowd",
    disturbance="2, 8 or 32 archivers on 1,000 sessions, 200 of them also archived by their ids",
    play=_crowd,
    rounds=100,
    short=5,
)
