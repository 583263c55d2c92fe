"""PgBouncer in transaction mode, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fiml.local_server._account import Account, account_to_use

__all__ = ["PGBOUNCER", "pooled"]

# Debian puts it where only root's PATH leads.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_START_SECONDS = 20.0


@contextmanager
def pooled(conninfo: str, connections: int = 2) -> Iterator[str]:
    """The conninfo of the same server through a pooler, which has so many connections to share."""
    assert PGBOUNCER is not None
    account = account_to_use()
    target = conninfo_to_dict(conninfo)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = " ".join(f"{key}={target[key]}" for key in ("host", "port", "user", "password"))
    text = (
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        f"default_pool_size = {connections}\nmax_client_conn = 200\n"
    )
    with (
        _written(text, account) as configuration,
        subprocess.Popen(
            [PGBOUNCER, "--quiet", configuration],
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        through = make_conninfo(conninfo, host="127.0.0.1", port=port)
        try:
            _wait(through, process)
            yield through
        finally:
            process.kill()


@contextmanager
def _written(text: str, account: Account | None) -> Iterator[Path]:
    # pytest's own folders are closed to the user that root's pooler runs under.
    with TemporaryDirectory(prefix="session-analytics-pooler-") as folder:
        Path(folder).chmod(0o711)
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.touch(mode=0o600)
        configuration.write_text(text)
        if account is not None:
            account.own(configuration)
        yield configuration


def _wait(conninfo: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            assert process.poll() is None
            assert monotonic() < deadline
            sleep(0.02)
        else:
            return
