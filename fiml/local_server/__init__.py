"""Brings a PostgreSQL for the demo, the tests and the local orchestration.

Any number of processes share one server. The first one starts it, it stops by itself when the last
one is gone - also when that one was killed -, and its data stays.
"""

import hmac
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fiml.errors import LocalServerError
from fiml.libpq import variables_put_aside
from fiml.local_server._binaries import Source, find_binaries
from fiml.local_server._cluster import USER, read_password
from fiml.local_server._home import Home, Running
from fiml.local_server._locks import FileLock
from fiml.local_server._postmaster import HOST, answers

__all__ = [
    "LocalServer",
    "has_local_data",
    "local_server",
    "remove_local_server",
    "remove_local_servers",
]

_FOLDER = ".session-analytics"
_JOIN_SECONDS = 150.0
_LEAVE_SECONDS = 10.0
_REMOVE_SECONDS = 20.0
# Between looks at another process, which does not tell when it is ready or gone. Each of these
# waits has a deadline.
_POLL_SECONDS = 0.02
_PACKAGES = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A PostgreSQL server that accepts connections from this machine, as its superuser."""

    port: int
    password: str = field(repr=False)
    version: str
    source: Source
    data_dir: Path
    keeper_pid: int
    postmaster_pid: int
    host: str = HOST
    user: str = USER

    def conninfo(self, dbname: str = "postgres", role: str | None = None) -> str:
        """Return the URL of one of its databases, password included.

        As the superuser, or as a role that was made to log in with `password_of(role)`.
        """
        user = self.user if role is None else role
        password = self.password if role is None else self.password_of(role)
        return (
            f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}"
            f"@{self.host}:{self.port}/{quote(dbname, safe='')}"
        )

    def password_of(self, role: str) -> str:
        """Return a password for a role: the same one always, and kept nowhere.

        Made of the superuser's, which it does not tell.
        """
        return hmac.new(self.password.encode(), role.encode(), "sha256").hexdigest()


@contextmanager
def local_server(data_dir: Path | None = None, *, durable: bool = True) -> Iterator[LocalServer]:
    """Use the local server of `data_dir`, starting it when it does not run.

    `data_dir` is the server's folder with everything of it; by default
    `.session-analytics/postgres-<major>` in the checkout, or in the current folder when the package
    is installed without one. The machine's own PostgreSQL is taken, the newest of version 15 or
    later, else the Python package's; the environment variable SESSION_ANALYTICS_POSTGRES chooses
    ("system", "embedded" or a folder with initdb and postgres).

    `durable=False` is for throw-away data: faster, and lost when the machine crashes. It counts for
    the one who starts the server.

    While it is used, libpq's own variables are not in this process's environment: they speak of
    another server, and what they demand of a connection the local one need not have.

    Raises LocalServerError when there is no server and none can be started.
    """
    with variables_put_aside():
        yield from _used(data_dir, durable=durable)


def _used(data_dir: Path | None, *, durable: bool) -> Iterator[LocalServer]:
    folder = _default_folder() if data_dir is None else data_dir.resolve()
    home = Home(folder)
    try:
        _make_folder(folder)
        clients = FileLock.of(home.clients_lock)
    except OSError as error:
        raise LocalServerError(f"cannot use {folder} for a local server: {error}") from error
    try:
        # The keeper holds clients.lock while it stops the server, and start.lock keeps the others
        # away until the server is there: whoever comes in sees it running or not at all.
        with FileLock.of(home.start_lock) as start:
            start.exclude()
            clients.share()
            running = _join_or_start(home, durable=durable)
        yield LocalServer(
            port=running.port,
            password=read_password(Path(running.cluster)),
            version=running.version,
            source=running.source,
            data_dir=folder,
            keeper_pid=running.keeper_pid,
            postmaster_pid=running.postmaster_pid,
        )
    finally:
        is_last = clients.try_to_exclude()
        clients.close()
        if is_last:
            # So that "the command has ended" means "the server has stopped".
            _wait_for_keeper_to_leave(home, _LEAVE_SECONDS)


def has_local_data() -> bool:
    """Whether a server was ever made in the default place."""
    return any((_root() / _FOLDER).glob("postgres-*"))


def remove_local_server(data_dir: Path) -> None:
    """Remove the server's folder and all its data.

    Raises LocalServerError when it is still in use.
    """
    folder = data_dir.resolve()
    if not folder.is_dir():
        return
    home = Home(folder)
    with FileLock.of(home.start_lock) as start:
        start.exclude()
        if not _wait_for_keeper_to_leave(home, _REMOVE_SECONDS):
            raise LocalServerError(f"the local server in {folder} is in use; end its users first")
        if home.elsewhere.exists():
            shutil.rmtree(home.elsewhere.read_text(), ignore_errors=True)
        shutil.rmtree(folder)


def remove_local_servers() -> None:
    """Remove all servers in the default place and all their data.

    Raises LocalServerError when one is still in use.
    """
    for folder in (_root() / _FOLDER).glob("postgres-*"):
        remove_local_server(folder)


def _root() -> Path:
    return _PACKAGES if (_PACKAGES / "pyproject.toml").is_file() else Path.cwd()


def _default_folder() -> Path:
    return _root() / _FOLDER / f"postgres-{find_binaries()[0].major}"


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        # The server runs as another user then; what it must not see has modes of its own.
        folder.chmod(0o711)


def _join_or_start(home: Home, *, durable: bool) -> Running:
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        with FileLock.of(home.keeper_lock) as keeper:
            if keeper.try_to_exclude():
                _start_keeper(home, keeper, durable=durable)
        running = home.read_running()
        if running is not None and answers(running.port, read_password(Path(running.cluster))):
            return running
        # A keeper whose starter was killed is not ready yet, or its server is just ending.
        if time.monotonic() > deadline:
            raise LocalServerError(
                f"the local server in {home.folder} does not answer; see {home.postgres_log}"
            )
        time.sleep(_POLL_SECONDS)


def _start_keeper(home: Home, lock: FileLock, *, durable: bool) -> None:
    home.forget_running()
    with home.keeper_log.open("wb") as log:
        command = [sys.executable, "-m", "fiml.local_server._keeper", str(home.folder)]
        started = subprocess.run(
            [*command, str(lock.descriptor), "durable" if durable else "throw-away"],
            # The one place from where the package can be imported without being installed.
            cwd=_PACKAGES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[lock.descriptor],
            # A terminal's Ctrl-C is for the client.
            start_new_session=True,
            check=False,
        )
    try:
        report = json.loads(started.stdout)
    except ValueError:
        said = home.keeper_log.read_text(errors="replace")[-2000:].strip()
        raise LocalServerError(f"the local server could not be started:\n{said}") from None
    if report["error"] is not None:
        raise LocalServerError(report["error"])


def _wait_for_keeper_to_leave(home: Home, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with FileLock.of(home.keeper_lock) as keeper:
            if keeper.try_to_exclude():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
