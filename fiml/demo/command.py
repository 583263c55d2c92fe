"""The demo: sample history through the whole pipeline, and what the reader says of it."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console

from fiml.database import Database
from fiml.demo._database import DATABASE, new_demo_database
from fiml.demo._logins import make_logins, with_logins
from fiml.demo._pipeline import run_pipeline
from fiml.demo._report import print_answers, print_next, write_environment_file
from fiml.demo._steps import Steps
from fiml.demo.history import DAYS, HEAVY_USER, SESSIONS, generate, load
from fiml.errors import SessionAnalyticsError
from fiml.local_server import LocalServer, local_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.migrations import migrate
from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.folding import folding

__all__ = ["run"]

_FOLDER: Final = ".session-analytics"
_LOG: Final = "demo.log"
_ENVIRONMENT_FILE: Final = "demo.env"
_WINDOW_DAYS: Final = 30
# What speaks of another database: sample data alerts nobody, and is no collector's or BI tool's.
_OF_OTHERS: Final = (
    "DAGSTER_HOME",
    "SESSION_ANALYTICS_ALERTS_FILE",
    "SESSION_ANALYTICS_APP_URL",
    "SESSION_ANALYTICS_BI_ROLE",
    "SESSION_ANALYTICS_BUILDER_URL",
    "SESSION_ANALYTICS_READER_URL",
    "SESSION_ANALYTICS_ROLE_PREFIX",
    "SESSION_ANALYTICS_TRACES",
)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*, sessions: int = SESSIONS, seed: int = 1, fold: bool = True) -> int:
    """Run the demo, telling what happens on stderr and the result on stdout.

    With DATABASE_URL on that server, else on the local one; always in a database of its own, which
    is made again.

    Args:
        sessions: how long the sample history is.
        seed: another one gives another history.
        fold: whether a process folds every second from the first build to the end.

    Returns:
        The exit code: 0; 1 where a step failed, with the reason on stderr; 130 after Ctrl-C.
    """
    # A descriptor of its own: while Dagster runs, the standard ones lead to a file.
    with os.fdopen(os.dup(2), "w", errors="replace") as stderr:
        console = Console(file=stderr, highlight=False, markup=False)
        with _interrupts() as interrupts:
            try:
                _run(console, Steps(console, interrupts.check), sessions, seed, fold=fold)
                return 0
            except BaseException as error:
                interrupts.ignore()
                received = interrupts.received
                if received is None and not isinstance(error, Exception):
                    raise
                if received is not None:
                    said, exit_code = "Interrupted; the next run starts over.", 128 + received
                else:
                    said, exit_code = f"The demo failed: {_reason(error)}", 1
                # The terminal may be gone.
                with suppress(OSError):
                    console.print(f"\n{said}", soft_wrap=True)
                return exit_code


def _run(console: Console, steps: Steps, sessions: int, seed: int, *, fold: bool) -> None:
    environ = dict(os.environ)
    folder = _own_folder()
    log = folder / _LOG
    log.write_bytes(b"")
    with ExitStack() as stack:
        with steps.step("Find PostgreSQL") as step:
            server = stack.enter_context(_server())
            step.detail = server.description
        with steps.step(f"Make the database {DATABASE}") as step:
            conninfo = stack.enter_context(new_demo_database(server.conninfo))
            stack.enter_context(_environment(_demo_environment(conninfo, server)))
            settings = Settings.from_environment()
            applied = migrate(
                settings.conninfo,
                settings.source_schema,
                on_progress=lambda migration: step.note(migration.name.replace("_", " ")),
            )
            step.detail = f"{len(applied)} migrations"
            if server.local is not None:
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    make_logins(connection, server.local)
                settings = with_logins(settings, server.local)
                os.environ.update(settings.login_environment())
        environment_file = None
        if server.local is None:
            environment_file = folder / _ENVIRONMENT_FILE
            write_environment_file(environment_file, conninfo)
        with steps.step(f"Make up {sessions:,} sessions of {DAYS} days"):
            history = generate(_present_hour(conninfo), sessions=sessions, seed=seed)
        with steps.step("Load them") as step:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                load(connection, history, settings.source_schema, on_progress=step.advance)
            step.detail = f"{sum(session.total_queries for session in history):,} queries"
        with steps.step("Dagster: archive, dbt build, reconcile") as step:
            pipeline = run_pipeline(log, step.note)
            step.detail = f"{pipeline.assets} assets, {pipeline.checks} checks passed"
        if fold:
            with steps.step("Fold every second what comes in") as step:
                output = stack.enter_context(log.open("ab"))
                stack.enter_context(folding(settings, on_line=step.note, output=output))
        with steps.step("Read the figures"), _uninterrupted():
            answers = asyncio.run(_read(settings.connecting_as(Purpose.READER)))
        steps.end()
        print_answers(answers)
        print_next(console, environ, environment_file)


async def _read(settings: Settings) -> list[dict[str, Any]]:
    async with Database(settings) as database:
        analytics = SessionAnalytics(database)
        return [
            await analytics.get_session_stats(user, days=_WINDOW_DAYS, include_meta=True)
            for user in (None, HEAVY_USER)
        ]


@dataclass(frozen=True, slots=True)
class _Server:
    conninfo: str
    description: str
    local: LocalServer | None


@contextmanager
def _server() -> Iterator[_Server]:
    if os.environ.get("DATABASE_URL"):
        given = Settings.from_environment().conninfo
        host = conninfo_to_dict(given).get("host") or "its default host"
        yield _Server(given, f"the server of DATABASE_URL, {host}", local=None)
        return
    with local_server() as own:
        version = f"PostgreSQL {own.version}, {own.source}, port {own.port}"
        yield _Server(own.conninfo(), version, local=own)


def _demo_environment(conninfo: str, server: _Server) -> dict[str, str]:
    """What the parts of the demo read their settings from, and their children."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # libpq's own variables speak of another server than the local one, and so do logins.
        if not (server.local is not None and name.startswith("PG")) and name not in _OF_OTHERS
    }
    return {
        **kept,
        "DATABASE_URL": conninfo,
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have exactly these environment variables."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _present_hour(conninfo: str) -> datetime:
    # The server's clock is the one that decides what has expired.
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("select date_trunc('hour', now(), 'UTC')").fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise psycopg.DataError("the server does not tell the time")
    return row[0].astimezone(UTC)


def _own_folder() -> Path:
    # Of the settings this one alone: others may speak of a server that is not the demo's.
    name = "SESSION_ANALYTICS_PROJECT_DIR"
    settings = Settings.from_environment({name: os.environ.get(name, "")})
    folder = settings.project_dir.resolve() / _FOLDER
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # The local server of root runs as another user, who has to pass through.
        folder.chmod(0o711)
    return folder


class _Interrupts:
    """Ctrl-C and its relatives, as KeyboardInterrupt, and known even where that was swallowed.

    Python swallows what is raised in an import's callback, and Dagster puts a handler of its own in
    place, which makes a failed step of an interrupt. The wake-up descriptor hears of every signal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._received: int | None = None

    @property
    def received(self) -> int | None:
        """The first of the signals that came, or None."""
        if self._received is None:
            with suppress(BlockingIOError):
                numbers = os.read(self._descriptor, 4096)
                self._received = next((number for number in numbers if number in _SIGNALS), None)
        return self._received

    def check(self) -> None:
        """Raise KeyboardInterrupt where one came."""
        if self.received is not None:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """From now on, ignore them: whoever presses Ctrl-C twice gets the same end."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    descriptor_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, interrupt)
        for number in _SIGNALS
        # `nohup` is meant.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield _Interrupts(reading)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor_before)
        os.close(reading)
        os.close(writing)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: asyncio complains of what an interrupt leaves half made. For short work."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(error: BaseException) -> str:
    sentence = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SessionAnalyticsError | psycopg.Error | OSError):
        return sentence
    log = _own_folder() / _LOG
    with log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return f"unexpected {type(error).__name__}: {sentence}; see {log}"
