"""Memory of processes, as Linux tells it."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

__all__ = ["MemoryWatch", "kilobytes"]

_FIGURES: Final = ("RssAnon", "VmHWM")

_EVERY_SECONDS: Final = 0.02


class MemoryWatch:
    """Watches a process of this machine while the block runs.

    Attributes:
        private_mb: most memory of its own at any time (RssAnon): shared buffers are not in it. None
            where the process is not to be seen: another machine, or no Linux.
        peak_mb: its peak with everything that is mapped (VmHWM).
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._private_kb = 0
        self._peak_kb = 0

    def __enter__(self) -> Self:
        # A process of that number on this machine, when the server is on another, is none of its
        # own.
        if _fields(self._status).get("Name", "").strip().startswith("postgres"):
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def private_mb(self) -> float | None:
        """See the class."""
        return round(self._private_kb / 1024, 1) or None

    @property
    def peak_mb(self) -> float | None:
        """See the class."""
        return round(self._peak_kb / 1024, 1) or None

    def _watch(self) -> None:
        while True:
            figures = kilobytes(self._status)
            self._private_kb = max(self._private_kb, figures.get("RssAnon", 0))
            self._peak_kb = max(self._peak_kb, figures.get("VmHWM", 0))
            if self._ended.wait(_EVERY_SECONDS):
                return


def kilobytes(status: Path) -> dict[str, int]:
    """RssAnon and VmHWM of a `/proc/<pid>/status`; nothing where there is no such file."""
    fields = _fields(status)
    return {name: int(fields[name].split()[0]) for name in _FIGURES if name in fields}


def _fields(status: Path) -> dict[str, str]:
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)
