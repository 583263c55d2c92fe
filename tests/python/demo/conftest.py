"""A checkout of its own for the demo, and the demo as a process in it."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[3]

_PARTS = ("fiml", "orchestration", "models", "macros", "tests/dbt")
_FILES = ("pyproject.toml", "dbt_project.yml", "profiles.yml")
_DEMO = "import sys; from fiml.demo import run; sys.exit(run(sessions={}))"
_COMMAND = "from fiml.cli import main; main()"


@dataclass(frozen=True)
class Run:
    """How a demo ended."""

    code: int
    out: str
    err: str


class Checkout:
    """A copy of the project in a folder of its own, so that its server and data are its own."""

    sessions = 800

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def demo(
        self,
        *,
        database_url: str | None = None,
        interrupt_at: str | None = None,
        whole_group: bool = False,
        **environment: str,
    ) -> Run:
        """Run the demo; at the line on stderr that begins with `interrupt_at`, press Ctrl-C.

        A terminal sends it to the whole process group, `kill -INT` to one process.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _DEMO.format(self.sessions)],
            cwd=self.folder,
            env={**self.environment(database_url), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = ""
        try:
            if interrupt_at is not None:
                assert process.stderr is not None
                for line in process.stderr:
                    said += line
                    if line.startswith(interrupt_at):
                        send = os.killpg if whole_group else os.kill
                        send(process.pid, signal.SIGINT)
                        break
                else:
                    pytest.fail(f"no line began with {interrupt_at!r}:\n{said}")
            out, err = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                process.kill()
        return Run(process.returncode, out, said + err)

    def command(self, *arguments: str, database_url: str | None = None) -> str:
        """What a command of this checkout prints on stdout."""
        return subprocess.run(
            [sys.executable, "-c", _COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment(database_url),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def environment(self, database_url: str | None) -> dict[str, str]:
        """The test's environment, with no database but the one that is named."""
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "DATABASE_URL", "SESSION_ANALYTICS_PROJECT_DIR"))
        }
        return env if database_url is None else {**env, "DATABASE_URL": database_url}

    def processes(self) -> list[str]:
        """The command lines of what still runs in this checkout and does not end (Linux only)."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                folder = str((process / "cwd").readlink())
                if str(self.folder) not in command + folder:
                    continue
                handle = os.pidfd_open(int(process.name))
            except OSError:
                continue
            # What is just ending, as helpers of Python's multiprocessing do, gets the time for it.
            has_ended = bool(select.select([handle], [], [], 5)[0])
            os.close(handle)
            if not has_ended:
                found.append(command)
        return found


@pytest.fixture(scope="session")
def checkout() -> Iterator[Checkout]:
    # pytest's own folders are closed to the user that the server of root runs under.
    folder = Path(tempfile.mkdtemp(prefix="session-analytics-demo-"))
    folder.chmod(0o711)
    for part in _PARTS:
        shutil.copytree(
            PACKAGES / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in _FILES:
        shutil.copy(PACKAGES / file, folder / file)
    yield Checkout(folder)
    shutil.rmtree(folder)
