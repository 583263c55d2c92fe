"""A server that dies, and connections that it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import LiteralString

import psycopg
from campaigns.campaign import Campaign
from campaigns.ground import Ground, Server, check_whole
from campaigns.ledger import Ledger
from campaigns.traffic import USERS, under_traffic
from psycopg.conninfo import conninfo_to_dict

from fiml.local_server import LocalServer, local_server, remove_local_server
from fiml.settings import Settings
from fiml.warehouse.folding import folding

__all__ = ["BACKENDS_TERMINATED", "DISK_FULL", "SERVER_KILLED", "TERMINATE_ONE", "kill_server"]

_PATIENCE_SECONDS = 60.0
_DISK_MEGABYTES = 250
TERMINATE_ONE: LiteralString = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid() "
    "and backend_type = 'client backend' order by random() limit 1"
)


@contextmanager
def _folder_process(conninfo: str) -> Iterator[None]:
    with (
        Path(os.devnull).open("wb") as nowhere,
        folding(
            Settings(conninfo=conninfo, fold_interval_seconds=0.1),
            on_line=print,
            output=nowhere,
        ),
    ):
        yield


def _terminate(ground: Ground, choose: Random) -> Counter[str]:
    """End connections at random for some seconds."""
    ledger, terminated = Ledger(), 0
    with ground.database() as conninfo:
        with (
            _folder_process(conninfo),
            under_traffic(conninfo, ledger, choose.getrandbits(32)) as traffic,
            psycopg.connect(conninfo, autocommit=True) as connection,
        ):
            until = monotonic() + 3
            while monotonic() < until:
                sleep(choose.uniform(0, 0.05))
                terminated += len(connection.execute(TERMINATE_ONE).fetchall())
        assert traffic.done["answered"] > 0
        check_whole(conninfo, ground.marts, ledger, USERS)
    return Counter({"backends terminated": terminated, **traffic.done})


def _kill_server(ground: Ground, choose: Random) -> Counter[str]:
    """Kill a server whose data must last, in the middle of everything."""
    ledger = Ledger()
    victim = choose.choice(["everything at once", "the postmaster", "one backend"])
    home = ground.folder / "durable"
    with local_server(home) as running:
        server = Server(running.conninfo())
        conninfo = server.make()
        with (
            _folder_process(conninfo),
            under_traffic(conninfo, ledger, choose.getrandbits(32)) as traffic,
        ):
            _wait_for_answers(traffic.done, choose.randint(20, 400))
            kill_server(running, victim, choose)
            if victim == "one backend":
                # The postmaster ends all others, recovers, and everybody goes on.
                _wait_for_answers(traffic.done, traffic.done["answered"] + 50)
    with local_server(home) as again:
        server = Server(again.conninfo())
        # It listens on another port now.
        conninfo = server.conninfo(str(conninfo_to_dict(conninfo)["dbname"]))
        check_whole(conninfo, ground.marts, ledger, USERS)
        server.drop(conninfo)
    return Counter({f"killed {victim}": 1, **traffic.done})


def kill_server(running: LocalServer, victim: str, choose: Random) -> None:
    """Kill "everything at once", "the postmaster" or "one backend"."""
    pid = running.postmaster_pid
    children = [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]
    victims = {
        "everything at once": [pid, *children],
        "the postmaster": [pid],
        "one backend": [choose.choice(children)],
    }[victim]
    for number in victims:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _wait_for_answers(done: Counter[str], answers: int) -> None:
    deadline = monotonic() + _PATIENCE_SECONDS
    while done["answered"] < answers:
        assert monotonic() < deadline, f"{done['answered']} answers of {answers}"
        sleep(0.01)


def _fill_disk(ground: Ground, choose: Random) -> Counter[str]:
    """Let a server's disk run full under everything, and make room again."""
    ledger = Ledger()
    with _small_disk() as disk:
        home = disk / "server"
        with local_server(home) as running:
            server = Server(running.conninfo())
            conninfo = server.make()
            with (
                _folder_process(conninfo),
                under_traffic(conninfo, ledger, choose.getrandbits(32)) as traffic,
            ):
                _wait_for_answers(traffic.done, choose.randint(50, 300))
                ballast = disk / "ballast"
                _write_until_full(ballast)
                _wait_for_errors(traffic.done)
                ballast.unlink()
        # One that could not write its log has ended; one that could goes on.
        with local_server(home) as again:
            server = Server(again.conninfo())
            conninfo = server.conninfo(str(conninfo_to_dict(conninfo)["dbname"]))
            with under_traffic(conninfo, ledger, choose.getrandbits(32)) as after:
                _wait_for_answers(after.done, 100)
            check_whole(conninfo, ground.marts, ledger, USERS)
    return traffic.done


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A disk in memory, which root alone can make."""
    folder = Path(mkdtemp(prefix="session-analytics-disk-"))
    options = f"size={_DISK_MEGABYTES}m,mode=0711"
    try:
        subprocess.run(
            ["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            capture_output=True,
            check=True,
        )
        try:
            yield folder
        finally:
            remove_local_server(folder / "server")
            subprocess.run(["/bin/umount", folder], check=True)
    finally:
        folder.rmdir()


def _can_mount() -> bool:
    try:
        with _small_disk():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _write_until_full(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass


def _wait_for_errors(done: Counter[str]) -> None:
    deadline = monotonic() + _PATIENCE_SECONDS
    while not any("ran out" in what or what == "DatabaseUnavailableError" for what in done):
        assert monotonic() < deadline, done
        sleep(0.01)


BACKENDS_TERMINATED = Campaign(
    name="backends-terminated",
    disturbance="`pg_terminate_backend` of random backends, every 25 ms for 3 s",
    play=_terminate,
    rounds=200,
    short=7,
)
SERVER_KILLED = Campaign(
    name="server-killed",
    disturbance="`kill -9` of PostgreSQL (fsync on): all processes, the postmaster, or a backend",
    play=_kill_server,
    rounds=50,
    short=3,
)
DISK_FULL = Campaign(
    name="disk-full",
    disturbance="the server's disk runs full under everything, and has room again",
    play=_fill_disk,
    rounds=30,
    short=1,
    is_possible=_can_mount,
)
