"""A process that folds for as long as another one serves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from fiml.settings import SETTINGS, Settings

__all__ = ["folding", "folding_environment"]

_SECONDS_TO_END: Final = 3.0
_PACKAGES: Final = Path(__file__).resolve().parents[2]
# Not `-m`, which would look for the package in the current folder only.
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from fiml.warehouse.folder import main; main()"
)


@contextmanager
def folding(
    settings: Settings,
    *,
    on_line: Callable[[str], None],
    output: int | IO[bytes] | None = None,
) -> Iterator[None]:
    """Have a process of its own fold every second while the block runs.

    It ends with this process, however that ends. Where the project is not there, nothing folds:
    answers are as exact then, and slower the more comes in between two builds.

    Args:
        settings: where the database and the project are.
        on_line: receives the line that says why nothing folds.
        output: where what goes wrong is logged; default: standard error.
    """
    if not (settings.project_dir / "dbt_project.yml").is_file():
        on_line(
            f"Nothing folds: there is no dbt_project.yml in {settings.project_dir}. Answers are "
            "exact all the same, and slower; SESSION_ANALYTICS_PROJECT_DIR names a checkout."
        )
        yield
        return
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(_PACKAGES), "session-analytics-fold"],
        env=folding_environment(settings),
        # It ends when nobody holds the other end any more, and that end is handed to nobody.
        stdin=subprocess.PIPE,
        # Standard output may be a protocol.
        stdout=subprocess.DEVNULL,
        stderr=output,
        # A terminal's Ctrl-C is for this process.
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        try:
            child.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def folding_environment(settings: Settings) -> dict[str, str]:
    """The environment of that process: this one's, with the settings in it, but no secret."""
    secrets = {setting.name for setting in SETTINGS if setting.is_secret}
    env = {
        **{name: value for name, value in os.environ.items() if name not in secrets},
        "SESSION_ANALYTICS_SOURCE_SCHEMA": settings.source_schema,
        "SESSION_ANALYTICS_PROJECT_DIR": str(settings.project_dir.resolve()),
        "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS": str(settings.fold_interval_seconds),
        "SESSION_ANALYTICS_LOG_FORMAT": settings.log_format,
        "SESSION_ANALYTICS_TRACES": settings.traces,
    }
    return {**env, **settings.login_environment()}
