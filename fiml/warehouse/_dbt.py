"""dbt as a child process: its arguments, its environment, its events, its end.

A child and not dbt's own runner in this process: dbt keeps its flags, its adapters and its logging
in globals, so that two builds in one process would share them, and the connection, which comes from
the environment, would have to be put into this process's own. The price is
dbt's start, two seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Any

from fiml.errors import BuildError, SettingsError
from fiml.libpq import connection_parameters
from fiml.settings import Settings

__all__ = [
    "Event",
    "check_project",
    "connection_environment",
    "dbt_arguments",
    "dbt_environment",
    "run_dbt",
]

# What dbt may take to tell the server to stop its statements before it is ended by force.
_GRACE_SECONDS = 20.0

_DEFAULT_PORT = "5432"
# Secrets and ways to log in that libpq takes from no variable, nor dbt from its profile.
_WITHOUT_A_VARIABLE = (
    "sslpassword",
    "scram_client_key",
    "scram_server_key",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
)

# dbt's command line, with an interrupt that works where the shell that started us ignores it.
_PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dbt.cli.main import cli; sys.argv[0] = 'dbt'; cli()"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of dbt's structured log.

    Attributes:
        name: dbt's name of the event, such as "LogModelResult".
        level: "debug", "info", "warn" or "error".
        message: the line as dbt shows it to a person.
        data: the event's own fields.
    """

    name: str
    level: str
    message: str
    data: Mapping[str, Any]


def check_project(settings: Settings) -> None:
    """Check that dbt and the project are there.

    Raises:
        BuildError: one of them is not; the message says what to do.
    """
    if not (settings.project_dir / "dbt_project.yml").is_file():
        raise BuildError(
            f"no dbt_project.yml in {settings.project_dir}; "
            "set SESSION_ANALYTICS_PROJECT_DIR to a checkout of session-analytics"
        )
    if find_spec("dbt") is None:
        raise BuildError("dbt is not installed; install session-analytics[dbt]")


def dbt_arguments(
    command: Sequence[str], *, project_dir: Path, target_path: Path, log_format: str = "json"
) -> list[str]:
    """The command line after `dbt`: the project's own folder, and a target of the caller's."""
    return [
        *command,
        "--project-dir",
        str(project_dir),
        "--profiles-dir",
        str(project_dir),
        "--target-path",
        str(target_path),
        # What would be logged to a file is what the caller reads.
        "--log-path",
        str(target_path),
        "--log-level-file",
        "none",
        "--log-format",
        log_format,
        "--no-use-colors",
    ]


def dbt_environment(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of dbt: the caller's, with the settings' connection in libpq's variables.

    Raises:
        SettingsError: dbt cannot be told the connection; the message says what to set instead.
    """
    env = connection_environment(settings, environ)
    # Whatever dbt is told is on its command line and in the project: a variable that somebody
    # exported for another project must not turn a build into something else.
    for name in [name for name in env if name.startswith("DBT_")]:
        del env[name]
    return {
        **env,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def connection_environment(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The caller's environment, with the settings' connection as dbt's profile takes it.

    Raises:
        SettingsError: dbt cannot be told the connection; the message says what to set instead.
    """
    caller = os.environ if environ is None else environ
    parameters = connection_parameters(settings.conninfo, caller)
    if untold := [name for name in _WITHOUT_A_VARIABLE if name in parameters]:
        raise SettingsError(
            f"dbt cannot be told the connection's {' and '.join(untold)}; set "
            "SESSION_ANALYTICS_BUILDER_URL to a connection string that does without"
        )
    env = settings.libpq_environment(caller)
    # An empty one is the default, and one that stands alone is for every host.
    ports = {port or _DEFAULT_PORT for port in env.get("PGPORT", "").split(",")}
    if len(ports) > 1:
        raise SettingsError(
            "dbt takes one port for every host, and the connection names "
            f"{', '.join(sorted(ports))}; set SESSION_ANALYTICS_BUILDER_URL to a connection string "
            "with one host, or with hosts of one port"
        )
    return {**env, "PGPORT": ports.pop()}


def run_dbt(
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    on_event: Callable[[Event], None] | None = None,
) -> int:
    """Run dbt to its end and return its exit code; it logs in JSON to `on_event`.

    KeyboardInterrupt (and SIGTERM, in the main thread) tells dbt to cancel its statements, waits
    for that, and goes on to the caller: nothing is left running.
    """
    with _terminated_as_interrupted():
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C reaches it through us, once, and not from the terminal as well.
            start_new_session=True,
        )
        try:
            for event in _events(child.stdout):
                if on_event is not None:
                    on_event(event)
            return child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            if child.stdout is not None:
                child.stdout.close()


def _events(stream: IO[str] | None) -> Iterator[Event]:
    for line in stream or ():
        try:
            parsed = json.loads(line)
            info = parsed["info"]
            yield Event(info["name"], info["level"], info["msg"], parsed.get("data") or {})
        except (ValueError, KeyError, TypeError):
            # What is no event comes from Python itself: a traceback, a missing module.
            if line.strip():
                yield Event("Output", "error", line.rstrip(), {})


def _stop(child: subprocess.Popen[str]) -> None:
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(end)
        try:
            # Its output is still read, so that a full pipe cannot keep it from ending.
            child.communicate(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            # A second Ctrl-C: no more patience.
            continue


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
