"""The folder of one local server: its files, and what the clients and the keeper tell each other.

clients.lock    shared by every client, exclusively the keeper's once no client is left
start.lock      held by the client that is looking for the server or starting it
keeper.lock     held by the keeper as long as it lives
running.json    where the server listens; written when it is ready
elsewhere       where the cluster is, when the server's account cannot reach this folder
cluster/        data/ and password
postgres.log    of the last start
keeper.log      empty, unless the keeper failed in a way it did not expect
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fiml.local_server._binaries import Source


@dataclass(frozen=True, slots=True)
class Running:
    """What a client has to know of a server that is ready."""

    port: int
    version: str
    source: Source
    cluster: str
    keeper_pid: int
    postmaster_pid: int


class Home:
    """Names of the files in a server's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clients_lock = folder / "clients.lock"
        self.start_lock = folder / "start.lock"
        self.keeper_lock = folder / "keeper.lock"
        self.elsewhere = folder / "elsewhere"
        self.postgres_log = folder / "postgres.log"
        self.keeper_log = folder / "keeper.log"
        self._running = folder / "running.json"

    def write_running(self, running: Running) -> None:
        # The rename shows readers all of it or nothing.
        unfinished = self._running.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(running)))
        unfinished.replace(self._running)

    def read_running(self) -> Running | None:
        try:
            return Running(**json.loads(self._running.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def forget_running(self) -> None:
        self._running.unlink(missing_ok=True)
