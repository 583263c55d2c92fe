"""A server as a process that somebody ends."""

import os
import signal
import subprocess
import sys

SERVED_AND_STOPPED = """
import os, signal, sys
from starlette.applications import Starlette
from fiml.network.listening import serve_app

def stop(origin):
    print(origin)
    os.kill(os.getpid(), signal.{name})

serve_app(Starlette(), "127.0.0.1", 0, on_ready=stop)
print("put away what runs beside it")
"""


def stopped_at_once(number: signal.Signals) -> tuple[int, list[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVED_AND_STOPPED.format(name=number.name)],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            told, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, told.splitlines()


def test_sigterm_at_the_moment_it_says_where_it_serves_ends_it() -> None:
    code, told = stopped_at_once(signal.SIGTERM)
    assert code == 0
    assert told[0].startswith("http://127.0.0.1:")
    assert told[1:] == ["put away what runs beside it"]


def test_ctrl_c_at_that_moment_does_too() -> None:
    code, told = stopped_at_once(signal.SIGINT)
    assert code == -signal.SIGINT
    assert len(told) == 1
