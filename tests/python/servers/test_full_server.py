"""A server that has no connection left: everybody says so soon, and goes on when it has one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from click.testing import CliRunner
from warehouse.application import leave_expired_sessions, one, record_metrics, wait_until
from warehouse.fold_process import FoldProcess

from fiml.cli import main
from fiml.database import Database
from fiml.errors import DatabaseUnavailableError
from fiml.local_server import local_server, remove_local_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.health import examine
from fiml.sessions.migrations import migrate
from fiml.sessions.store import SessionStore
from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

pytestmark = pytest.mark.anyio

TOO_MANY = "too many clients already"
# How much later than its deadline a call may end on a machine that does other things too.
MARGIN = 3.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A migrated database with ten sessions, on a server of its own with a hundred connections."""
    home = Path(tmp_path_factory.mktemp("full")) / "server"
    with local_server(home, durable=False) as server:
        settings = Settings(conninfo=server.conninfo(), timeout_seconds=2, pool_size=5)
        migrate(settings.conninfo)
        with psycopg.connect(settings.conninfo, autocommit=True) as connection:
            fold(connection, load_marts(settings), "of nothing")
            record_metrics(connection, 10)
        yield settings
    remove_local_server(home)


@contextmanager
def full(settings: Settings) -> Iterator[None]:
    """Somebody has all connections, those that are kept for superusers among them."""
    with ExitStack() as stack:
        held = map(psycopg.connect, repeat(settings.conninfo, 200))
        with pytest.raises(psycopg.OperationalError, match=TOO_MANY):
            deque(map(stack.enter_context, held))
        yield


async def test_who_connects_first_is_told_at_once(settings: Settings) -> None:
    with full(settings):
        for face in (Database(settings).open, SessionStore(settings).initialize):
            before = monotonic()
            with pytest.raises(DatabaseUnavailableError, match=TOO_MANY):
                await face()
            assert monotonic() - before < MARGIN
        (finding,) = await examine(settings)
    assert (finding.code, finding.title) == ("server.unreachable", "no free connection")


async def test_a_reader_without_a_connection_is_told_why_and_reads_when_there_is_one(
    settings: Settings,
) -> None:
    async with Database(settings) as database:
        analytics = SessionAnalytics(database)
        with full(settings):
            before = monotonic()
            found = await asyncio.gather(
                *(analytics.get_session_stats() for _ in range(20)), return_exceptions=True
            )
            assert monotonic() - before < settings.timeout_seconds + MARGIN
        assert {type(error) for error in found} == {DatabaseUnavailableError}
        assert all(TOO_MANY in str(error) for error in found)
        answers: list[object] = []
        while not answers:
            try:
                answers.append((await analytics.get_session_stats())["total_sessions"])
            except DatabaseUnavailableError:
                continue
        assert answers[0] >= 10  # type: ignore[operator]


async def test_who_has_one_connection_reads_and_archives_with_it(settings: Settings) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        leave_expired_sessions(connection, 30)
    async with Database(settings) as database:
        analytics = SessionAnalytics(database)
        await analytics.get_session_stats()
        with full(settings):
            found = await asyncio.gather(*(analytics.get_session_stats() for _ in range(50)))
            assert len(found) == 50
            assert (await archive_expired(database, batch_size=7)).archived == 30


def test_archival_that_cannot_connect_fails_soon_and_the_next_one_does_it(
    settings: Settings,
) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        leave_expired_sessions(connection, 3)
    env = {"DATABASE_URL": settings.conninfo}
    with full(settings):
        before = monotonic()
        result = CliRunner().invoke(main, ["archive"], env=env)
        assert monotonic() - before < MARGIN
    assert result.exit_code == 1
    assert TOO_MANY in result.stderr
    assert CliRunner().invoke(main, ["archive"], env=env).exit_code == 0
    with psycopg.connect(settings.conninfo) as connection:
        assert one(connection, "select count(*) from sessions where not is_archived") == 0


def test_the_folder_waits_for_a_connection_and_needs_no_more_than_one(settings: Settings) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as database, ExitStack() as stack:
        with full(settings):
            folder = FoldProcess(settings)
            stack.enter_context(folder.process)
            stack.callback(folder.process.kill)
            folder.wait_for(TOO_MANY)
        folder.wait_for("database: works again")
        with full(settings):
            # From scratch it would take a second one.
            database.execute("select analytics.request_rebuild()")
            record_metrics(database, 5)
            wait_until(
                database,
                "not exists (select from analytics.mart_states, analytics.session_changes "
                "where mart_states.is_rebuild_requested "
                "or analytics.is_unseen(session_changes.xid, mart_states.watermark))",
            )
