"""Everything at once on one database, hour after hour; and nothing grows but what is stored.

A round is a stretch of ten minutes. Those of one sitting have one database and one process that
reads; at the end of each the traffic rests, everything is compared, and what has to stay bounded is
measured.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from time import monotonic, sleep
from typing import Any, LiteralString, Self

import psycopg
from campaigns.builds import StartedBuild
from campaigns.campaign import MOST, Campaign
from campaigns.ground import Ground, Server, check_whole
from campaigns.ledger import Ledger
from campaigns.servers import TERMINATE_ONE, kill_server
from campaigns.traffic import USERS, under_traffic
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from warehouse.application import one

from fiml.local_server import local_server
from fiml.warehouse.fold import fold

__all__ = ["NAME", "SOAK"]

NAME = "soak"
_STRETCH_SECONDS = 600.0
_SHORT_STRETCH_SECONDS = 8.0
# Some dozens of steps a second: two hours of them are still compared row by row.
_PAUSE_SECONDS = 0.1
_FOLD_SECONDS = 0.5
# Shorter stretches go without: who archives waits a minute for a server that is gone.
_LONG_ENOUGH_FOR_AN_END = 60.0

# What everybody together may have open: applications, archiver, readers, folder, build, this.
_MOST_CONNECTIONS = 60
# The feed and its windows are kept for half an hour, and what came since they were pruned. A
# session is written to it when it begins, ends, gets its metrics and goes, and is told apart from
# what it was.
_FEED_SECONDS = 2_700.0
_FEED_ROWS_OF_A_SESSION = 10
_FEED_ROWS_OF_NOTHING = 1_000
# A relation with its indexes may have so many times the bytes of its live rows, and so many more.
_BLOAT_TIMES = 12
_BLOAT_MEGABYTES = 8
# Of a process: what Python and its packages take, and for each name that it has to know.
_PROCESS_MEGABYTES = 220
_NAME_KILOBYTES = 2
# Temporary views of builds whose server crashed stay until the next one takes their place.
_MOST_LEFTOVERS = 16

_FOLDER = "from fiml.warehouse.folder import main; main()"
# Reads until it is told to rest, and closes its connections then; what it learned it keeps.
_READER = """
import asyncio, random, sys
from fiml.database import Database
from fiml.errors import DatabaseError
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings

QUESTIONS = [
    {"user_id": user_id, "session_type": session_type, "days": days}
    for user_id in (None, "ann")
    for session_type in (None, "equity")
    for days in (1, 7, 30)
]

async def next_order():
    return (await asyncio.to_thread(sys.stdin.readline)).strip()

async def main():
    known = {}
    while conninfo := await next_order():
        if conninfo not in known:
            database = Database(Settings(conninfo=conninfo, timeout_seconds=5, pool_size=3))
            known = {conninfo: (database, SessionAnalytics(database))}
        database, analytics = known[conninfo]
        rest = asyncio.create_task(next_order())
        while not rest.done():
            try:
                await database.open()
                await analytics.get_session_stats(**random.choice(QUESTIONS), include_meta=True)
            except DatabaseError:
                pass
            await asyncio.sleep(0.05)
        await database.close()
        print("rests", flush=True)

asyncio.run(main())
"""

_LOCKABLE: tuple[LiteralString, ...] = (
    "lock table sessions in share mode",
    "lock table session_metrics in access exclusive mode",
    "lock table marts.daily_session_stats in share mode",
    "lock table serving.session_totals in access exclusive mode",
    "select from analytics.watermarks for update",
    "lock table analytics.session_changes in share mode",
)
_RELATIONS: LiteralString = """
select format('%I.%I', pg_namespace.nspname, pg_class.relname), pg_total_relation_size(pg_class.oid)
from pg_class
inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
where pg_namespace.nspname in ('analytics', 'marts', 'serving') and pg_class.relkind = 'r'
"""
_CONNECTIONS: LiteralString = (
    "select count(*) from pg_stat_activity where backend_type = 'client backend'"
)


class _Installation:
    """A server whose data must last, one database on it, and who lives on between stretches."""

    def __init__(self, home: Path, ground: Ground) -> None:
        self.home = home
        self.marts = ground.marts
        self.ledger = Ledger()
        # When a stretch ended, and how many sessions there had been by then.
        self.ends = [(monotonic(), 0)]
        self._serving = ExitStack()
        self._start()
        self.conninfo = self._server.make()
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            fold(connection, self.marts, "of nothing")
        self.reader = _Reader()

    def _start(self) -> None:
        self.running = self._serving.enter_context(local_server(self.home))
        self._server = Server(self.running.conninfo())

    def start_again(self) -> None:
        """After the server was killed; it listens on another port then."""
        self._serving.close()
        self._start()
        self.conninfo = self._server.conninfo(str(conninfo_to_dict(self.conninfo)["dbname"]))

    def close(self) -> None:
        self.reader.end()
        self._serving.close()

    def sessions_since(self, seconds: float) -> int:
        """How many were opened in the stretches of so many seconds, at the least."""
        began = monotonic() - seconds
        before = max((sessions for ended, sessions in self.ends if ended <= began), default=0)
        return len(self.ledger) - before


@contextmanager
def _installed(ground: Ground) -> Iterator[_Installation]:
    installation = _Installation(ground.folder / NAME, ground)
    try:
        yield installation
    finally:
        installation.close()


class _Reader:
    """A process that reads, and is measured."""

    def __init__(self) -> None:
        self._complaints = TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    @contextmanager
    def reading(self, conninfo: str) -> Iterator[None]:
        """It reads while the block runs, and has no connection afterwards."""
        self._tell(conninfo)
        yield
        self._tell("rest")
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "rests\n", f"it gave up: {self._last_complaint()}"

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2]

    def megabytes(self) -> int:
        return _megabytes(self._process)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()


class _Folder:
    """A process that folds, and is killed and started again."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FOLDER],
            env={
                **os.environ,
                "DATABASE_URL": self._conninfo,
                "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS": str(_FOLD_SECONDS),
            },
            # It ends when nobody holds the other end any more.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def megabytes(self) -> int:
        return _megabytes(self._process)

    def end(self) -> None:
        """Ask it to end.

        Raises:
            AssertionError: it had ended on its own, or does not end as it should.
        """
        assert self._process.poll() is None, "the process that folds gave up"
        self._process.terminate()
        self._process.communicate(timeout=30)
        # One that was killed a moment ago is still starting, and knows no signal yet.
        assert self._process.returncode in {0, -signal.SIGTERM}, self._process.returncode


def _megabytes(process: subprocess.Popen[Any]) -> int:
    found = Path(f"/proc/{process.pid}/status")
    if not found.exists():
        return 0
    (kilobytes,) = (
        int(line.split()[1]) for line in found.read_text().splitlines() if line[:6] == "VmRSS:"
    )
    return kilobytes // 1024


class _Faults:
    """What goes wrong in a stretch, one thing after the other, some of them for a while."""

    def __init__(self, installation: _Installation, folder: _Folder, choose: Random) -> None:
        self.done: Counter[str] = Counter()
        self.most_connections = 0
        self._installation = installation
        self._folder = folder
        self._choose = choose
        self._builds: list[StartedBuild] = []
        # Transactions that are open, and until when.
        self._open: list[tuple[float, psycopg.Connection[Any]]] = []
        # How often beside the others, and what does it; False where it could not be done.
        self._kinds: dict[str, tuple[int, Callable[[], bool | None]]] = {
            "backends terminated": (12, self._terminate),
            "locks held": (4, self._hold_a_lock),
            "transactions held open": (3, self._open_a_transaction),
            "builds begun": (3, partial(self._begin_a_build, "incremental")),
            "builds killed": (2, self._kill_the_build),
            "folders killed": (2, folder.kill),
            "servers crashed": (1, self._crash),
            "rebuilds begun": (1, partial(self._begin_a_build, "scratch")),
        }

    def go_on(self, until: float) -> None:
        """Until a moment of the monotonic clock."""
        weights = [weight for weight, _ in self._kinds.values()]
        while monotonic() < until:
            sleep(self._choose.uniform(0.2, 2.0))
            (kind,) = self._choose.choices(list(self._kinds), weights)
            # What one fault needs another one may just have taken.
            with suppress(psycopg.Error):
                self.done[kind] += self._kinds[kind][1]() is not False
            with suppress(psycopg.Error):
                self._look()

    def _look(self) -> None:
        with self._connected() as connection:
            self.most_connections = max(self.most_connections, one(connection, _CONNECTIONS))
        for until, held in list(self._open):
            if until < monotonic():
                self._open.remove((until, held))
                held.close()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self._installation.conninfo, autocommit=True) as connection:
            yield connection

    def _terminate(self) -> None:
        with self._connected() as connection:
            connection.execute(TERMINATE_ONE)

    def _hold_a_lock(self) -> None:
        with self._connected() as connection, connection.transaction():
            connection.execute("set local lock_timeout = '2s'")
            connection.execute(self._choose.choice(_LOCKABLE))
            sleep(self._choose.uniform(0.2, 3.0))

    def _open_a_transaction(self) -> None:
        held = psycopg.connect(self._installation.conninfo)
        self._open.append((monotonic() + self._choose.uniform(2, 60), held))
        held.execute("set transaction isolation level repeatable read")
        held.execute("select pg_current_xact_id(), count(*) from sessions")

    def _begin_a_build(self, kind: str) -> bool:
        if any(build.is_running for build in self._builds):
            return False
        self._builds.append(StartedBuild(self._installation.conninfo, kind))
        return True

    def _kill_the_build(self) -> bool:
        running = [build for build in self._builds if build.is_running]
        for build in running:
            build.kill_some(self._choose)
        return bool(running)

    def _crash(self) -> None:
        # The postmaster ends all others, recovers, and everybody goes on. While it recovers, it
        # would give up instead.
        with self._connected():
            pass
        kill_server(self._installation.running, "one backend", self._choose)

    def end(self) -> None:
        """Nothing is wrong any more."""
        for _, held in self._open:
            held.close()
        for build in self._builds:
            build.wait()


def _live(seconds: float, ground: Ground, choose: Random) -> Counter[str]:
    """A stretch: everything at once, then nothing, and then everything is looked at."""
    installation = ground.lasting(NAME, lambda: _installed(ground))
    try:
        return _live_in(installation, seconds, choose)
    except BaseException:
        # What is wrong once is wrong in all that follows.
        ground.forget(NAME)
        raise


def _live_twice(seconds: float, ground: Ground, choose: Random) -> Counter[str]:
    """A second stretch finds what the first one left."""
    _live(seconds, ground, choose)
    return _live(seconds, ground, choose)


def _live_in(installation: _Installation, seconds: float, choose: Random) -> Counter[str]:
    is_to_end = seconds >= _LONG_ENOUGH_FOR_AN_END and choose.random() < 1 / 4
    with (
        ExitStack() as stack,
        installation.reader.reading(installation.conninfo),
        under_traffic(
            installation.conninfo,
            installation.ledger,
            choose.getrandbits(32),
            pause=_PAUSE_SECONDS,
            erases=True,
        ) as traffic,
    ):
        folder = stack.enter_context(_Folder(installation.conninfo))
        faults = _Faults(installation, folder, choose)
        try:
            faults.go_on(monotonic() + seconds)
        finally:
            faults.end()
        megabytes = {"folder": folder.megabytes(), "reader": installation.reader.megabytes()}
        if is_to_end:
            kill_server(installation.running, "everything at once", choose)
        folder.end()
    if is_to_end:
        installation.start_again()
    check_whole(installation.conninfo, installation.marts, installation.ledger, USERS)
    installation.ends.append((monotonic(), len(installation.ledger)))
    most = {
        "connections": faults.most_connections,
        **{f"MB of the {process}": found for process, found in megabytes.items()},
        **_measure(installation),
    }
    _check(installation, most)
    return Counter(
        {
            **traffic.done,
            **faults.done,
            "servers killed": int(is_to_end),
            **{f"{MOST}{what}": found for what, found in most.items()},
        }
    )


def _measure(installation: _Installation) -> dict[str, int]:
    with psycopg.connect(installation.conninfo, autocommit=True) as connection:
        found = {
            "rows of the feed": one(connection, "select count(*) from analytics.session_changes"),
            "windows": one(connection, "select count(*) from analytics.build_windows"),
            "names": one(connection, "select count(*) from serving.keys"),
            "locks": one(
                connection,
                "select count(*) from pg_locks inner join pg_stat_activity using (pid) "
                "where backend_type = 'client backend' and pid <> pg_backend_pid()",
            ),
            "prepared transactions": one(connection, "select count(*) from pg_prepared_xacts"),
            "temporary leftovers": one(
                connection, "select count(*) from pg_class where relpersistence = 't'"
            ),
        }
        # Half an hour's grace is for reads; what nobody can ask for any more is to go.
        with connection.transaction(force_rollback=True):
            connection.execute("select analytics.prune_changes('0')")
            found["rows of the feed that stay"] = one(
                connection, "select count(*) from analytics.session_changes"
            )
        for name, size in connection.execute(_RELATIONS).fetchall():
            found[f"bloat of {name}"] = (
                max(size // 1024**2 - _BLOAT_MEGABYTES, 0)
                * 1024**2
                // max(_live_bytes(connection, name), 1)
            )
            found["MB of a relation"] = max(found.get("MB of a relation", 0), size // 1024**2)
    return found


def _live_bytes(connection: psycopg.Connection[Any], name: str) -> int:
    row = connection.execute(
        sql.SQL(
            "select coalesce(sum(pg_column_size(live.*)), 0)::bigint + 32 * count(*) "
            "from {} as live"
        ).format(sql.Identifier(*name.split(".")))
    ).fetchone()
    assert row is not None
    return int(row[0])


def _check(installation: _Installation, most: dict[str, int]) -> None:
    limits = {
        "connections": _MOST_CONNECTIONS,
        "MB of the folder": _PROCESS_MEGABYTES,
        "MB of the reader": _PROCESS_MEGABYTES + most["names"] * _NAME_KILOBYTES // 1024,
        "rows of the feed": (
            _FEED_ROWS_OF_NOTHING
            + _FEED_ROWS_OF_A_SESSION * installation.sessions_since(_FEED_SECONDS)
        ),
        "rows of the feed that stay": 0,
        "windows": int(_FEED_SECONDS / _FOLD_SECONDS),
        "locks": 0,
        "prepared transactions": 0,
        "temporary leftovers": _MOST_LEFTOVERS,
        **{what: _BLOAT_TIMES for what in most if what.startswith("bloat of ")},
    }
    beyond = {what: (most[what], limit) for what, limit in limits.items() if most[what] > limit}
    assert not beyond, f"found, and allowed: {beyond}"


SOAK = Campaign(
    name=NAME,
    disturbance=(
        "everything at once on one database, with faults at random, ten minutes a round (in "
        "`make test` twice 8 s); feed, bloat, connections, locks and memory stay bounded"
    ),
    play=partial(_live, _STRETCH_SECONDS),
    play_short=partial(_live_twice, _SHORT_STRETCH_SECONDS),
    rounds=12,
    short=1,
)
