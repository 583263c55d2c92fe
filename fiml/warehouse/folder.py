"""The process that folds every second, so that readers find few rows that no mart has seen.

It runs the same compiled SQL as the dbt models (fiml/warehouse/fold.py), beside any number of
builds. One of them folds in each database; others stand by until it is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any, Final, NoReturn
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fiml.database import typed_error
from fiml.errors import (
    BuildError,
    SchemaVersionError,
    SessionAnalyticsError,
)
from fiml.monitoring.logs import log_to_stderr
from fiml.monitoring.otlp import sending_spans
from fiml.monitoring.spans import spanning
from fiml.sessions.migrations import installed_version, require_current_version
from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.fold import fold_mart, fold_together, open_window
from fiml.warehouse.notices import notify
from fiml.warehouse.project import load_marts

__all__ = ["APPLICATION_NAME", "Folder", "run"]

APPLICATION_NAME: Final = "session-analytics-fold"

# Held by the one that folds; any two must take the same key, which has no meaning.
_LOCK_KEY: Final = 7_165_839_204_413
# More unseen rows than this are planned for anew, and one mart at a time.
_FEW_ROWS: Final = 5_000
_STANDBY_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 15.0
_PRUNE_SECONDS: Final = 60.0
_FEWEST_FOR_TWO: Final = 2
_SERVING: Final = "session_totals"
# What a signal leaves for telling the server to stop.
_SECONDS_TO_END: Final = 0.8
_INTERRUPTED: Final = 130
# prune_changes forgets the windows of runs that are called so.
_RUN_PREFIX: Final = "fold "
# No trouble, but to be left alone all the same: whoever folds it may take minutes.
_BUSY: Final = ""

_SESSION: Final = {
    "jit": "off",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # A fold and its watermark are lost together in a crash of the server, and made again.
    "synchronous_commit": "off",
    # A process that was killed, or whose machine is gone, leaves no statement and no lock behind.
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_CONNECTION: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# The order makes it a look at the index, however many rows of the feed were folded already.
_LOOK: Final = f"""
with states as materialized (
    select
        mart_states.mart,
        mart_states.watermark::text as watermark,
        mart_states.watermark is null or mart_states.is_rebuild_requested as is_from_scratch
    from analytics.mart_states
    where mart_states.mart = any(%s)
),

counts as materialized (
    select
        watermarks.watermark,
        (
            select count(*)
            from (
                select
                from analytics.session_changes
                where analytics.is_unseen(session_changes.xid, watermarks.watermark::pg_snapshot)
                order by session_changes.xid
                limit {_FEW_ROWS + 1}
            ) as unseen
        ) as unseen_rows
    from (select distinct states.watermark from states) as watermarks
    where watermarks.watermark is not null
)

select states.mart, states.is_from_scratch, coalesce(counts.unseen_rows, 0) as unseen_rows
from states
left join counts on states.watermark = counts.watermark
"""  # noqa: S608 - the number above
_IS_FREE: Final = """
select watermarks.mart from analytics.watermarks where watermarks.mart = %s for update skip locked
"""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trouble:
    """What keeps failing: told once, and tried again after longer and longer pauses."""

    reason: str
    pause: float
    until: float


@dataclass(slots=True)
class _Work:
    """What a look found.

    Attributes:
        few: marts for one transaction; where one is due, those that are not come along.
        large: marts that take a transaction each: from scratch, or with many unseen rows.
        due: those of both that have something to fold.
    """

    few: list[str]
    large: list[str]
    due: set[str]


class Folder:
    """Folds what one connection shows; keeps what it learned from one connection to the next."""

    def __init__(self, settings: Settings) -> None:
        """Compile the project, or find it compiled.

        Raises:
            BuildError: dbt cannot compile the project, or one of them is not there.
        """
        self._settings = settings
        self._marts = {mart.name: mart for mart in load_marts(settings)}
        self._troubles: dict[str, _Trouble] = {}
        # Marts folded one by one end at windows of their own; dbt's tests compare at equal ones.
        self._is_uneven = False
        # What is cancelled now is no trouble of a mart.
        self._is_cancelling = False

    def fold(self, connection: psycopg.Connection[Any]) -> bool:
        """Fold every mart that has not seen all rows, and return whether there was one.

        A mart that fails is told to the log and left alone for a while; so is, without a word, one
        that a build is at. The others are folded.

        Raises:
            psycopg.Error: the connection broke, or the server refused what is no mart's fault.
        """
        work = self._look(connection)
        if not work.due:
            return False
        with spanning("fold", {"marts": len(work.due), "large": len(work.large)}):
            self._fold(connection, work)
        return True

    def _fold(self, connection: psycopg.Connection[Any], work: _Work) -> None:
        # Before the fold, which may take a while: answers hold the rows already.
        notify(connection)
        self._take_over_changes_of_the_project()
        folded: set[str] = set()
        alone = [name for name in work.few if name in self._troubles]
        together = [name for name in work.few if name not in self._troubles]
        if together:
            try:
                folded |= self._fold_together(connection, together)
            except psycopg.Error:
                if connection.closed:
                    raise
                # One by one they say which.
                alone = work.few
        for name in alone:
            folded |= self._fold_alone(connection, name)
        large = self._fold_large(connection, work.large)
        self._is_uneven = bool(large)
        folded |= large
        for name in work.due - folded:
            if name not in self._troubles:
                self.tell(name, _BUSY)

    def _look(self, connection: psycopg.Connection[Any]) -> _Work:
        work = _Work(few=[], large=[], due=set())
        now = monotonic()
        found = connection.execute(_LOOK, [list(self._marts)], prepare=True).fetchall()
        for name in self._marts.keys() - {name for name, _, _ in found}:
            self.tell(name, "the database has no such mart")
        for name, is_from_scratch, unseen in sorted(found):
            trouble = self._troubles.get(name)
            if trouble is not None and now < trouble.until:
                continue
            if is_from_scratch or unseen > 0 or self._is_uneven:
                work.due.add(name)
            if is_from_scratch or unseen > _FEW_ROWS:
                work.large.append(name)
            else:
                work.few.append(name)
        return work

    def _fold_together(
        self, connection: psycopg.Connection[Any], names: list[str]
    ) -> frozenset[str]:
        run_id = f"{_RUN_PREFIX}{uuid4()}"
        open_window(connection, run_id)
        marts = [self._marts[name] for name in names if name in self._marts]
        return fold_together(connection, marts, run_id)

    def _fold_alone(self, connection: psycopg.Connection[Any], name: str) -> frozenset[str]:
        return self._account(connection, name, lambda: self._fold_together(connection, [name]))

    def _fold_large(self, connection: psycopg.Connection[Any], names: list[str]) -> frozenset[str]:
        """Fold marts that take a transaction each, two of them at a time.

        The serving layer takes as long as all the others together: it comes first, and the others
        pass it by on a connection of their own.
        """
        if len(names) < _FEWEST_FOR_TWO:
            return self._fold_in_turn(connection, names)
        # Both would, and the one that comes second would wait for all of the first.
        connection.execute("select analytics.assign_missing_user_keys()")
        first, *others = sorted(names, key=lambda name: (name != _SERVING, name))
        with ExitStack() as stack:
            try:
                other = stack.enter_context(_connect(self._settings))
            except psycopg.OperationalError:
                # A server that has no second one to give: one after the other.
                return self._fold_in_turn(connection, names)
            thread = stack.enter_context(ThreadPoolExecutor(1))
            self._is_cancelling = False
            try:
                beside = [thread.submit(self._fold_one_large, other, name) for name in others]
                folded = self._fold_one_large(connection, first)
                return folded.union(*(future.result() for future in beside))
            except BaseException:
                self._is_cancelling = True
                thread.shutdown(wait=False, cancel_futures=True)
                other.cancel_safe(timeout=_SECONDS_TO_END)
                raise

    def _fold_in_turn(
        self, connection: psycopg.Connection[Any], names: list[str]
    ) -> frozenset[str]:
        return frozenset().union(*(self._fold_one_large(connection, name) for name in names))

    def _fold_one_large(self, connection: psycopg.Connection[Any], name: str) -> frozenset[str]:
        def fold() -> frozenset[str]:
            if connection.execute(_IS_FREE, [name]).fetchone() is None:
                return frozenset()
            run_id = f"{_RUN_PREFIX}{uuid4()}"
            open_window(connection, run_id)
            began = monotonic()
            how = fold_mart(connection, self._marts[name], run_id, prepare=False)
            _logger.info("%s: %s in %.1f s", name, how, monotonic() - began)
            return frozenset({name})

        return self._account(connection, name, fold)

    def _account(
        self,
        connection: psycopg.Connection[Any],
        name: str,
        fold: Callable[[], frozenset[str]],
    ) -> frozenset[str]:
        try:
            folded = fold()
        except psycopg.Error as error:
            if connection.closed or self._is_cancelling:
                raise
            self.tell(name, _told(error))
            return frozenset()
        if folded:
            self.forget(name)
        else:
            self.tell(name, _BUSY)
        return folded

    def _take_over_changes_of_the_project(self) -> None:
        # What the next build folds with: two definitions of one mart would not add up.
        try:
            self._marts = {mart.name: mart for mart in load_marts(self._settings)}
        except (BuildError, OSError) as error:
            self.tell("project", str(error))
        else:
            self.forget("project")

    def tell(self, what: str, reason: str) -> float:
        """Log what failed, unless it failed so the last time; return how long to leave it alone."""
        before = self._troubles.get(what)
        interval = self._settings.fold_interval_seconds
        pause = interval if before is None else min(2 * before.pause, _LONGEST_PAUSE_SECONDS)
        pause = max(pause, interval)
        self._troubles[what] = _Trouble(reason, pause, monotonic() + pause)
        if reason != _BUSY and (before is None or before.reason != reason):
            _logger.warning("%s: %s; it is tried again", what, reason)
        return pause

    def forget(self, what: str) -> None:
        """Log that it works again, if it did not."""
        trouble = self._troubles.pop(what, None)
        if trouble is not None and trouble.reason != _BUSY:
            _logger.warning("%s: works again", what)


def run(settings: Settings, *, is_child: bool = False) -> int:
    """Fold every `settings.fold_interval_seconds` until a signal; for the main thread.

    Nothing that may pass ends it: it waits for a server that is not there.

    Args:
        settings: where the database and the project are.
        is_child: also wait for a database that is not migrated yet, and end when standard input
            does.

    Returns:
        The exit code: 0 after SIGTERM, 130 after Ctrl-C.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
        SchemaVersionError: the database is not migrated, or by another version.
    """
    with _signals() as signals:
        try:
            if is_child:
                threading.Thread(target=_end_with_parent, daemon=True).start()
            _fold_for_ever(settings, Folder(settings), is_patient=is_child)
        except KeyboardInterrupt:
            return signals.exit_code


def _fold_for_ever(settings: Settings, folder: Folder, *, is_patient: bool) -> NoReturn:
    rest = threading.Event()
    while True:
        try:
            with _connect(settings) as connection:
                is_patient = True
                folder.forget("database")
                _stand_by(connection, rest)
                _logger.info("folding every %g s", settings.fold_interval_seconds)
                _keep_folding(connection, settings, folder, rest)
        except (psycopg.Error, SchemaVersionError) as error:
            failed = typed_error(error) if isinstance(error, psycopg.Error) else error
            if isinstance(failed, SchemaVersionError) and not is_patient:
                raise failed from error
            pause = folder.tell("database", _told(error))
        rest.wait(pause)


def _keep_folding(
    connection: psycopg.Connection[Any],
    settings: Settings,
    folder: Folder,
    rest: threading.Event,
) -> NoReturn:
    pruned_at = monotonic()
    interval = settings.fold_interval_seconds
    while True:
        began = monotonic()
        try:
            folder.fold(connection)
            if began - pruned_at >= _PRUNE_SECONDS:
                pruned_at = began
                _check_version(connection, settings)
                connection.execute("select analytics.prune_changes()")
            folder.forget("fold")
        except psycopg.Error as error:
            if connection.closed or isinstance(typed_error(error), SchemaVersionError):
                raise
            rest.wait(folder.tell("fold", _told(error)))
        rest.wait(max(interval - (monotonic() - began), interval / 10))


@contextmanager
def _connect(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    given = conninfo_to_dict(settings.conninfo)
    conninfo = make_conninfo("", **{**_CONNECTION, **given, "application_name": APPLICATION_NAME})
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for name, value in _SESSION.items():
            # Not every system can do each of them.
            with suppress(psycopg.errors.InvalidParameterValue):
                connection.execute("select set_config(%s, %s, false)", [name, value])
        _check_version(connection, settings)
        yield connection


def _check_version(connection: psycopg.Connection[Any], settings: Settings) -> None:
    require_current_version(installed_version(connection))
    row = connection.execute("select source_schema from analytics.settings").fetchone()
    if row is None or row[0] != settings.source_schema:
        raise SchemaVersionError(
            f"the database was installed for another source schema than "
            f"{settings.source_schema!r}; set SESSION_ANALYTICS_SOURCE_SCHEMA to it"
        )


def _stand_by(connection: psycopg.Connection[Any], rest: threading.Event) -> None:
    """Return as the one that folds."""
    is_told = False
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone()
        if row is not None and row[0]:
            return
        if not is_told:
            _logger.info("another process folds this database; standing by")
            is_told = True
        # Waiting in the server would keep a snapshot, and with it every dead row of the database.
        rest.wait(_STANDBY_SECONDS)


def _told(error: psycopg.Error | SchemaVersionError) -> str:
    # Of a value that does not fit, the message quotes the value.
    if isinstance(error, psycopg.DataError):
        return f"the database refused a value: {type(error).__name__}"
    return str(typed_error(error) if isinstance(error, psycopg.Error) else error)


class _Signals:
    """What ends this process, as KeyboardInterrupt in the main thread."""

    def __init__(self) -> None:
        self.exit_code = _INTERRUPTED

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        self.exit_code = 0 if number == signal.SIGTERM else _INTERRUPTED
        # The statement is cancelled on the way out; a server that does not answer is left alone.
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_TO_END)
        raise KeyboardInterrupt

    def give_up(self, _number: int, _frame: FrameType | None) -> None:
        os._exit(self.exit_code)


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    handlers = {
        signal.SIGINT: signals.interrupt,
        signal.SIGTERM: signals.interrupt,
        signal.SIGALRM: signals.give_up,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    # The parent writes nothing: what comes is the end, however the parent came to its own.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run as the child of a process that serves; its settings are in the environment."""
    try:
        settings = Settings.from_environment().connecting_as(Purpose.BUILDER)
        log_to_stderr(settings.log_format)
        with sending_spans(settings):
            sys.exit(run(settings, is_child=True))
    except SessionAnalyticsError as error:
        _logger.warning("not folding: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
