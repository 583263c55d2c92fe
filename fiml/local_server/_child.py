"""Starts programs that must not outlive the process that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from fiml.local_server._account import Account, clean_environment

_PR_SET_PDEATHSIG = 1


def start_child(
    command: Sequence[str | Path],
    *,
    account: Account | None,
    folder: Path,
    output: int | IO[bytes],
    signal_when_orphaned: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start a program under `account`, in `folder`.

    On Linux the kernel sends it the signal when the calling thread dies, by SIGKILL too. Elsewhere
    nothing does; the next start ends what is left. Call it from a process with one thread.
    """
    return subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=_tie_to_parent(signal_when_orphaned),
    )


def _tie_to_parent(signal_when_orphaned: signal.Signals) -> Callable[[], None]:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    # It runs after the change of user, which would clear the request.
    def in_child() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(signal_when_orphaned), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return in_child
