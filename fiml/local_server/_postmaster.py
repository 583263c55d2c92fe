"""Starts the server process and ends one that an earlier keeper left behind."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg

from fiml.errors import LocalServerError
from fiml.local_server._child import start_child
from fiml.local_server._cluster import USER, Cluster

HOST = "127.0.0.1"

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
# Between looks at another process, which does not tell when it is ready or gone. Each of these
# waits has a deadline.
_POLL_SECONDS = 0.02

_SETTINGS = {
    "listen_addresses": HOST,
    # A socket's path has at most 107 bytes, a folder's path may have more.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_SETTINGS_OF_A_THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}
# Reasons to try once more: another program took the port; or backends of a killed server, which
# notice its death on their own, are not gone yet.
_PASSING_FAILURES = ("could not bind", "shared memory block")


def start_postmaster(
    cluster: Cluster, log: Path, *, durable: bool
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server and return it with its port once it answers.

    Raises LocalServerError with the end of its log when it does not.
    """
    deadline = time.monotonic() + _START_SECONDS
    _end_left_over(cluster.data)
    while True:
        port = _free_port()
        process = _spawn(cluster, log, port, durable=durable)
        try:
            _wait_until_it_answers(cluster, process, port, deadline)
        except _NotAnsweringError:
            said = log.read_text(errors="replace")[-2000:].strip()
            if process.poll() is None:
                stop(process)
                process.wait()
            elif any(reason in said for reason in _PASSING_FAILURES) and (
                time.monotonic() < deadline
            ):
                time.sleep(_POLL_SECONDS)
                continue
            raise LocalServerError(
                f"PostgreSQL {cluster.binaries.version} did not start in {cluster.data}:\n{said}"
            ) from None
        return process, port


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask for a fast shutdown: open transactions are rolled back, nothing is lost."""
    process.send_signal(signal.SIGINT)


class _NotAnsweringError(Exception):
    pass


def _spawn(cluster: Cluster, log: Path, port: int, *, durable: bool) -> subprocess.Popen[bytes]:
    settings = {**_SETTINGS, "port": str(port)}
    if not durable:
        settings.update(_SETTINGS_OF_A_THROW_AWAY)
    options = [f"--{name}={value}" for name, value in settings.items()]
    with log.open("wb") as output:
        return start_child(
            [cluster.binaries.postgres, "-D", cluster.data, *options],
            account=cluster.account,
            folder=cluster.folder,
            output=output,
            signal_when_orphaned=signal.SIGINT,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(
    cluster: Cluster, process: subprocess.Popen[bytes], port: int, deadline: float
) -> None:
    while not answers(port, cluster.password):
        if process.poll() is not None or time.monotonic() > deadline:
            raise _NotAnsweringError
        time.sleep(_POLL_SECONDS)


def answers(port: int, password: str) -> bool:
    """Whether the server that knows this password listens there."""
    try:
        psycopg.connect(
            host=HOST,
            port=port,
            user=USER,
            password=password,
            dbname="postgres",
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def _end_left_over(data: Path) -> None:
    """Wait for a server whose keeper was killed, and remove the pid file that a crash left."""
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + _STOP_SECONDS
    while (pid := _read_pid(pid_file)) is not None:
        if not _is_postmaster(pid, data):
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise LocalServerError(
                f"an earlier PostgreSQL (process {pid}) in {data} does not stop; end it and retry"
            )
        os.kill(pid, signal.SIGINT)
        time.sleep(_POLL_SECONDS)


def _read_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split()[0])
    except FileNotFoundError:
        return None
    except (ValueError, IndexError):
        return 0


def _is_postmaster(pid: int, data: Path) -> bool:
    # After a restart of the machine the number may be another program's.
    if pid <= 0:
        return False
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(data).encode() in command.split(b"\0")
    answer = subprocess.run(
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return str(data) in answer.stdout
