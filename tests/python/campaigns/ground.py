"""Where a round is played: fresh databases, and the check that nothing was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString, TypeVar
from uuid import uuid4

import psycopg
from campaigns.figures import expected_rows
from campaigns.ledger import Ledger
from exactness.world import World
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from warehouse.application import one, wait_until

from fiml.local_server import local_server, remove_local_server
from fiml.sessions.migrations import migrate
from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import Mart, load_marts

__all__ = ["SOMEBODY_ELSE", "Ground", "Server", "check_whole", "own_ground", "settle"]

# The other clients of a database.
SOMEBODY_ELSE: LiteralString = (
    "select from pg_stat_activity where datname = current_database() "
    "and backend_type = 'client backend' and pid <> pg_backend_pid()"
)
DAYS = (1, 30)
T = TypeVar("T")
# What a killed client leaves running ends when the server looks for the client: every ten seconds.
_ORPHANS_SECONDS = 60


@dataclass(frozen=True)
class Ground:
    """What every round of a campaign stands on.

    Attributes:
        make_database: makes a migrated database without a row and returns its conninfo.
        drop_database: takes one away again, whoever is connected.
        marts: what is folded.
        folder: where rounds may leave files.
    """

    make_database: Callable[[], str]
    drop_database: Callable[[str], None]
    marts: Sequence[Mart]
    folder: Path
    _lasting: dict[str, tuple[ExitStack, Any]] = field(default_factory=dict, init=False, repr=False)

    def lasting(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What rounds of a sitting share, made by the first that asks for it."""
        if name not in self._lasting:
            with ExitStack() as stack:
                made = stack.enter_context(make())
                self._lasting[name] = (stack.pop_all(), made)
        found: T = self._lasting[name][1]
        return found

    def forget(self, name: str) -> None:
        """End what is shared; the next round that asks for it makes another."""
        stack, _ = self._lasting.pop(name, (ExitStack(), None))
        stack.close()

    def close(self) -> None:
        """End all that is shared."""
        for name in list(self._lasting):
            self.forget(name)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The conninfo of a database for one round.

        Its marts are built, so that all they ever hold came through the feed.
        """
        conninfo = self.make_database()
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                fold(connection, self.marts, "of nothing")
            yield conninfo
        finally:
            self.drop_database(conninfo)


class Server:
    """A cluster of a campaign's own, and a migrated database on it to copy."""

    def __init__(self, maintenance: str) -> None:
        self._maintenance = maintenance
        with psycopg.connect(maintenance, autocommit=True) as connection:
            if not one(
                connection, "select exists (select from pg_database where datname = 'migrated')"
            ):
                connection.execute("create database migrated")
                migrate(self.conninfo("migrated"))

    def make(self) -> str:
        """A copy of the migrated database: its conninfo."""
        name = f"round_{uuid4().hex}"
        self._run(sql.SQL("create database {} template migrated").format(sql.Identifier(name)))
        return self.conninfo(name)

    def drop(self, conninfo: str) -> None:
        """Remove one that `make` made."""
        name = str(conninfo_to_dict(conninfo)["dbname"])
        self._run(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def conninfo(self, dbname: str) -> str:
        """Of a database by its name."""
        return make_conninfo(self._maintenance, dbname=dbname)

    def _run(self, statement: sql.Composable) -> None:
        with psycopg.connect(self._maintenance, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def own_ground() -> Iterator[Ground]:
    """A ground on a throw-away server."""
    with TemporaryDirectory(prefix="session-analytics-campaign-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        try:
            with local_server(folder / "server", durable=False) as running:
                server = Server(running.conninfo())
                ground = Ground(
                    server.make, server.drop, load_marts(Settings.from_environment()), folder
                )
                try:
                    yield ground
                finally:
                    ground.close()
        finally:
            for home in folder.iterdir():
                remove_local_server(home)


def settle(conninfo: str) -> None:
    """Wait until nobody else is connected, then archive everything that has expired."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        wait_until(
            connection,
            f"not exists ({SOMEBODY_ELSE})",
            _ORPHANS_SECONDS,
        )
        # Others may expire while these are archived.
        now = one(connection, "select now()")
        while one(connection, "select archived from analytics.archive_expired_sessions(1000)"):
            pass
        assert one(connection, "select count(*) from analytics.quarantine") == 0
        assert (
            one(
                connection,
                "select count(*) from sessions where expires_at <= %s and not is_archived",
                now,
            )
            == 0
        )


def check_whole(
    conninfo: str, marts: Sequence[Mart], ledger: Ledger, users: Sequence[str | None] = ()
) -> None:
    """Source ledger == tables == marts == reader, row by row, after everything has settled.

    Raises:
        AssertionError: they differ.
    """
    settle(conninfo)
    world = World(conninfo, marts)
    try:
        ledger.check(world.oracle)
        # What is unseen is as exact as what is folded.
        _check_reader(world, users)
        world.check_incremental_equals_scratch()
        _check_marts(world)
        _check_reader(world, users)
    finally:
        world.close()


def _check_marts(world: World) -> None:
    expected, found = expected_rows(world.oracle), world.rows()
    for mart, rows in expected.items():
        wrong = set(found[mart]) ^ set(rows)
        assert found[mart] == rows, f"{mart}: {sorted(wrong, key=repr)[:4]}"


def _check_reader(world: World, users: Sequence[str | None]) -> None:
    types: list[Any] = [
        row[0] for row in world.oracle.execute("select distinct type from sessions").fetchall()
    ]
    for days in DAYS:
        for session_type in (None, *types):
            world.check(session_type=session_type, days=days)
        for user_id in users:
            world.check(user_id=user_id, days=days)
