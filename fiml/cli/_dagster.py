"""Dagster's web interface and daemon on this machine, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final

from fiml.monitoring.logs import LogFormat
from fiml.settings import Settings
from fiml.warehouse.folding import folding

__all__ = ["dagster_command", "dagster_environment", "run"]

_HOST: Final = "127.0.0.1"
# What a run under way may take to cancel its statements, and the daemon to stop.
_GRACE_SECONDS: Final = 40.0
_POLL_SECONDS: Final = 0.5


def run(settings: Settings, *, on_line: Callable[[str], None], fold: bool = True) -> int:
    """Serve until Ctrl-C, SIGTERM or the end of the terminal, and return the exit code.

    Nothing is left running.

    Runs, ticks and logs are kept in `DAGSTER_HOME`, by default `.session-analytics/dagster` in the
    project's folder, so that the schedules go on where they stopped.

    Args:
        settings: where the database and the project are.
        on_line: receives the line that says why nothing folds.
        fold: whether a process beside Dagster's folds every second.

    Raises:
        OSError: that folder cannot be written.
    """
    beside = folding(settings, on_line=on_line)
    with beside if fold else nullcontext():
        return _serve(settings)


def _serve(settings: Settings) -> int:
    env = dagster_environment(settings)
    home = Path(env["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_instance_settings(), home / "dagster.yaml")
    children: list[subprocess.Popen[bytes]] = []
    deadline: float | None = None

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal deadline
        # A terminal that is closed tells of it through the kernel, and through the shell.
        if number == signal.SIGHUP and deadline is not None:
            return
        for child in children:
            # A second one: no more patience.
            _signal_group(child, signal.SIGINT if deadline is None else signal.SIGKILL)
        deadline = monotonic() + _GRACE_SECONDS

    # Before the start: a child inherits that a signal is ignored, but not how it is handled.
    previous = {
        number: signal.signal(number, stop)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # `nohup` is meant.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        # A group of its own: Ctrl-C reaches it once, through us, and what it leaves can be found.
        child = subprocess.Popen(
            dagster_command(settings.log_format),
            cwd=settings.project_dir,
            env=env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        children.append(child)
        if deadline is not None:
            # It was to end while it started, and nobody could tell it.
            _signal_group(child, signal.SIGINT)
        code: int | None = None
        while code is None and (deadline is None or monotonic() < deadline):
            with suppress(subprocess.TimeoutExpired):
                code = child.wait(_POLL_SECONDS)
        if code is None:
            return 1
        return code if deadline is None else 0
    finally:
        for child in children:
            # Servers of Dagster's that outlived it.
            _signal_group(child, signal.SIGKILL)
            child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def dagster_command(log_format: LogFormat = LogFormat.TEXT) -> list[str]:
    """The command line: both services, on this machine only."""
    return [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "--module-name",
        "orchestration.definitions",
        "--host",
        _HOST,
        "--log-format",
        "json" if log_format is LogFormat.JSON else "colored",
    ]


def dagster_environment(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of Dagster's processes: the caller's, with the settings in it."""
    env = dict(os.environ if environ is None else environ)
    # Dagster takes no relative path, and its processes work in another folder.
    project = settings.project_dir.resolve()
    env.setdefault("DAGSTER_HOME", str(project / ".session-analytics" / "dagster"))
    env |= {
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "SESSION_ANALYTICS_SOURCE_SCHEMA": settings.source_schema,
        "SESSION_ANALYTICS_PROJECT_DIR": str(project),
        "SESSION_ANALYTICS_SCHEDULE": settings.schedule,
        "SESSION_ANALYTICS_RECONCILE_SCHEDULE": settings.reconcile_schedule,
        "SESSION_ANALYTICS_REPORTS_SCHEDULE": settings.reports_schedule,
        "SESSION_ANALYTICS_ARCHIVE_BATCH_SIZE": str(settings.archive_batch_size),
        "SESSION_ANALYTICS_ARCHIVE_CONNECTIONS": str(settings.archive_connections),
        "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS": str(settings.fold_interval_seconds),
        "SESSION_ANALYTICS_LOG_FORMAT": settings.log_format,
        "SESSION_ANALYTICS_TRACES": settings.traces,
    }
    if settings.alerts_file is not None:
        env["SESSION_ANALYTICS_ALERTS_FILE"] = str(settings.alerts_file.resolve())
    return {**env, **settings.login_environment()}


def _instance_settings() -> Path:
    found = importlib.util.find_spec("orchestration")
    if found is None or found.origin is None:
        raise FileNotFoundError("the package orchestration is not installed")
    return Path(found.origin).with_name("dagster.yaml")


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
