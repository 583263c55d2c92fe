"""`session-analytics fold` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fiml.settings import Settings

COMMAND = str(Path(sys.executable).with_name("session-analytics"))


class FoldProcess:
    """The command, started, and what it says."""

    def __init__(self, settings: Settings) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "fold"],
            env={
                **os.environ,
                "DATABASE_URL": settings.conninfo,
                "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS": "0.1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def wait_for(self, words: str) -> None:
        """Read what it says until a line has these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if words in line:
                return
        pytest.fail(f"it never said {words!r}:\n{self.said}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=30)
        self.said += errors
        assert out == ""
        assert "Traceback" not in self.said
        return self.process.returncode
