"""Processes beside the run: started with a task as JSON, ended with the block that started them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

__all__ = ["ChildError", "child", "end", "result_of", "serve"]

_END_SECONDS: Final = 10.0
_ROOT: Final = Path(__file__).resolve().parents[1]


class ChildError(Exception):
    """A child ended without a result; the message is what it said last."""


@contextmanager
def child(module: str, task: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m <module>` on a task; at the end it is told to end, and waited for."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A terminal's Ctrl-C is for the run, which ends its children.
        start_new_session=True,
    )
    try:
        if process.stdin is not None:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Have a process end, by force where it does not by itself."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a child's result.

    Raises:
        ChildError: it ended without one.
    """
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        said = process.stderr.read() if process.stderr is not None else ""
        raise ChildError((said.strip().splitlines() or ["a child said nothing"])[-1])
    result: dict[str, Any] = json.loads(line)
    return result


def serve(work: Callable[[dict[str, Any], Event], Mapping[str, Any]]) -> None:
    """Be a child: do `work` on the task, and print its result.

    The event that `work` receives is set when the parent closes the other end of stdin: it wants
    the result now, or is gone.
    """
    task = json.loads(sys.stdin.readline())
    ended = Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    Thread(target=watch, daemon=True).start()
    print(json.dumps(work(task, ended)), flush=True)  # noqa: T201
