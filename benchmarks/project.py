"""Everything that the benchmarks use of the project beyond its documented interface."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from benchmarks.answers import Answer
from benchmarks.questions import Question
from fiml.database import Connection, Database
from fiml.errors import BuildError
from fiml.sessions.reading import read_stats
from fiml.sessions.serving import ServingCache
from fiml.settings import Settings
from fiml.warehouse.folder import Folder as ProjectFolder
from fiml.warehouse.folding import folding

__all__ = ["Folder", "Reader", "folding_every_second"]

# As the folding process has it.
_SESSION = "select set_config('jit', 'off', false), set_config('synchronous_commit', 'off', false)"


class Reader:
    """The reader as `get_session_stats` asks it, at an instant and on a way of the caller's."""

    def __init__(self, *, path: str | None = None) -> None:
        """`path` is "serving", "marts" or "source"; None leaves it to the reader."""
        self._path = path
        self._cache = ServingCache()

    def forget(self) -> None:
        """Drop what was kept of the answers before."""
        self._cache = ServingCache()

    async def answer(self, connection: Connection, question: Question) -> Answer:
        """Answer on a connection; in its snapshot where it is in a transaction."""
        return await read_stats(
            connection,
            user_id=question.scope.user_id,
            session_type=question.scope.session_type,
            days=question.days,
            as_of=question.as_of,
            cache=self._cache,
            path=self._path,
        )

    async def answer_through(self, database: Database, question: Question) -> Answer:
        """Answer through a pool."""

        async def read(connection: Connection) -> Answer:
            return await self.answer(connection, question)

        return await database.run(read, is_repeatable=True)


class Folder:
    """Folds everything that is kept up by folding, as the process that does so every second."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        """Compile the project; `connection` is in autocommit and this one's alone."""
        self._connection = connection
        self._connection.execute(_SESSION)
        self._folder = ProjectFolder(settings)

    @property
    def backend_pid(self) -> int:
        """The process of the server that folds."""
        return self._connection.info.backend_pid

    def fold(self) -> None:
        """Fold what has come since the last time."""
        self._folder.fold(self._connection)

    def rebuild(self) -> None:
        """Make everything again from the source rows.

        Raises:
            BuildError: something could not be folded; the project's log says what.
        """
        self._connection.execute("select analytics.request_rebuild()")
        self.fold()
        self.require_folded()

    def require_folded(self) -> None:
        """Check that nothing is left to fold: what fails is only told to the log.

        Raises:
            BuildError: something is.
        """
        behind = self._connection.execute(
            """
            select mart_states.mart
            from analytics.mart_states
            where
                mart_states.watermark is null
                or mart_states.is_rebuild_requested
                or exists (
                    select from analytics.session_changes
                    where analytics.is_unseen(session_changes.xid, mart_states.watermark)
                )
            """
        ).fetchall()
        if behind:
            raise BuildError(f"not folded: {', '.join(sorted(name for (name,) in behind))}")

    def prune(self) -> None:
        """Drop the feed rows that everybody holds, so that each measurement starts alike."""
        self._connection.execute("select analytics.prune_changes(interval '0 seconds')")
        self._connection.execute("vacuum (analyze) analytics.session_changes")


def folding_every_second(
    settings: Settings, on_line: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Have the project's own process fold while the block runs."""
    return folding(settings, on_line=on_line, output=subprocess.DEVNULL)
