"""The process that keeps one PostgreSQL running for as long as some client uses it.

A client that needs the server starts `python -m fiml.local_server._keeper HOME LOCK DURABLE`, hands
the locked keeper.lock down and reads one report from its standard output. The keeper then waits for
the exclusive lock of clients.lock, which the kernel grants when the last client is gone.
"""

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from fiml.errors import SessionAnalyticsError
from fiml.local_server._cluster import prepare_cluster
from fiml.local_server._home import Home, Running
from fiml.local_server._locks import FileLock
from fiml.local_server._postmaster import start_postmaster, stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_SECONDS_TO_STOP_FAST = 30.0


def main() -> None:
    _, folder, lock_descriptor, durable = sys.argv
    # The client waits for this process, so that the keeper is nobody's unreaped child.
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    os.chdir("/")

    home = Home(Path(folder))
    with FileLock(int(lock_descriptor)):
        # Blocked signals wait for `sigwait`: none is lost between two looks at the server.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _keep(home, durable=durable == "durable")


def _keep(home: Home, *, durable: bool) -> None:
    try:
        cluster = prepare_cluster(home, durable=durable)
        process, port = start_postmaster(cluster, home.postgres_log, durable=durable)
    except SessionAnalyticsError as error:
        _report(error=str(error))
        return
    except Exception as error:
        _report(error=f"the local server could not be started: {error!r}")
        raise
    home.write_running(
        Running(
            port=port,
            version=cluster.binaries.version,
            source=cluster.binaries.source,
            cluster=str(cluster.folder),
            keeper_pid=os.getpid(),
            postmaster_pid=process.pid,
        )
    )
    _report(error=None)

    def stop_when_unused() -> None:
        # Kept until this process ends: new clients wait for that.
        clients = FileLock.of(home.clients_lock)
        clients.exclude()
        stop(process)

    threading.Thread(target=stop_when_unused, daemon=True).start()
    while process.poll() is None:
        if signal.sigwait(_SIGNALS) != signal.SIGCHLD:
            stop(process)
    home.forget_running()


def _report(*, error: str | None) -> None:
    # The client may be gone.
    with suppress(BrokenPipeError):
        os.write(1, json.dumps({"error": error}).encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.close(nowhere)


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001  # the client has its report; this is for the log
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)
