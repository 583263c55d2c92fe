"""The PostgreSQL server of the tests, and throw-away databases on it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from spreading import spread as _spread  # noqa: F401 - the day is that of the main process

from fiml.local_server import local_server, remove_local_server
from fiml.sessions.migrations import migrate
from fiml.sessions.roles import drop_left_roles
from fiml.settings import Settings
from fiml.warehouse.project import Mart, load_marts

# The workers of pytest-xdist inherit it and so share one server.
_HOME_VARIABLE = "SESSION_ANALYTICS_TEST_SERVER_HOME"
_HOME_PREFIX = "session-analytics-tests-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
# Write-ahead log included.
_ROOM_FOR_A_SERVER = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    if _is_worker(config) or "DATABASE_URL" in os.environ:
        return
    _remove_what_killed_runs_left()
    # pytest's own folders are closed to the user that the server of root runs under.
    home = Path(tempfile.mkdtemp(prefix=_HOME_PREFIX, dir=_folder_in_memory()))
    home.chmod(0o711)
    os.environ[_HOME_VARIABLE] = str(home)


def _folder_in_memory() -> Path | None:
    """Where there is room for the server's files; each test's database is ten megabytes of them."""
    if not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return None
    room = shutil.disk_usage(_SHARED_MEMORY).free
    return _SHARED_MEMORY if room >= _ROOM_FOR_A_SERVER else None


def _remove_what_killed_runs_left() -> None:
    """On a disk it would do no harm; this is memory. No run takes a day."""
    for home in _SHARED_MEMORY.glob(f"{_HOME_PREFIX}*"):
        with suppress(FileNotFoundError):
            if home.stat().st_mtime < time.time() - 86_400:
                shutil.rmtree(home, ignore_errors=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    home = os.environ.pop(_HOME_VARIABLE, None)
    if home is not None:
        remove_local_server(Path(home))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


class Server:
    """A server on which the tests may make databases."""

    def __init__(self, maintenance_conninfo: str) -> None:
        self.maintenance_conninfo = maintenance_conninfo

    def conninfo(self, dbname: str) -> str:
        given = self.maintenance_conninfo
        if given.startswith(("postgresql://", "postgres://")):
            return urlunsplit(urlsplit(given)._replace(path=f"/{dbname}"))
        return make_conninfo(given, dbname=dbname)

    def create_database(self, template: str | None = None) -> str:
        """Return the name of a new database, a copy of `template` when one is named."""
        # Short enough for the names of its roles to begin with it.
        name = f"session_analytics_test_{uuid.uuid4().hex[:16]}"
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        self._run(statement)
        return name

    def drop_database(self, name: str) -> None:
        self._run(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)),
        )
        # Roles are the cluster's, and outlive a database.
        with psycopg.connect(self.maintenance_conninfo, autocommit=True) as connection:
            drop_left_roles(connection, name)

    def _run(self, statement: sql.Composable) -> None:
        with psycopg.connect(self.maintenance_conninfo, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of DATABASE_URL, else one of the test run's own."""
    given = os.environ.get("DATABASE_URL")
    if given is not None:
        yield Server(given)
        return
    with local_server(Path(os.environ[_HOME_VARIABLE]) / "server", durable=False) as own:
        yield Server(own.conninfo())


@pytest.fixture
def make_database(server: Server) -> Iterator[Callable[..., str]]:
    """Makes databases that live as long as the test: `make_database(template=None) -> conninfo`."""
    with ExitStack() as stack:

        def make(template: str | None = None) -> str:
            name = server.create_database(template)
            stack.callback(server.drop_database, name)
            return server.conninfo(name)

        yield make


@pytest.fixture
def empty_database(make_database: Callable[..., str]) -> str:
    """The conninfo of a database with nothing in it."""
    return make_database()


@pytest.fixture(scope="session")
def migrated_template(server: Server) -> Iterator[str]:
    """The name of a migrated database to copy; nothing may stay connected to it."""
    name = server.create_database()
    try:
        migrate(server.conninfo(name))
        yield name
    finally:
        server.drop_database(name)


@pytest.fixture
def migrated_database(make_database: Callable[..., str], migrated_template: str) -> str:
    """The conninfo of a migrated database without a row in it."""
    return make_database(migrated_template)


@pytest.fixture(scope="session")
def marts() -> tuple[Mart, ...]:
    """What a build folds."""
    return load_marts(Settings.from_environment())


@pytest.fixture
def hang_ups_are_heard() -> Iterator[None]:
    """Also where the tests were started to outlive their terminal (`nohup`): it is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this account can make one: root, on a machine with mount."""
    if os.geteuid() != 0 or not Path("/bin/mount").exists():
        pytest.skip("no file system can be mounted here")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)
