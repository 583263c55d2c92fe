"""What every section of a run stands on."""

from __future__ import annotations

from asyncio import Runner
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from benchmarks.contenders import Ground
from benchmarks.measure import Effort
from benchmarks.project import Folder
from benchmarks.questions import Question, Scope, find_scope
from benchmarks.scale import Scale
from fiml.database import Database
from fiml.settings import Settings

__all__ = ["Bench", "Options"]

# Above the numbers of any history.
_FIRST_ARRIVAL: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was asked for.

    Attributes:
        scopes: names of scopes, as in `benchmarks.questions`.
        days: lengths of windows.
        clients: numbers of concurrent callers.
        contenders: names of those measured.
        effort: of one cell of a table.
        load_seconds: of one slice under concurrent callers, and of readers beside writers.
        live_seconds: how long sessions keep arriving.
        most_rows: of the largest fold and the longest tail of unseen rows.
    """

    scopes: tuple[str, ...]
    days: tuple[int, ...]
    clients: tuple[int, ...]
    contenders: tuple[str, ...]
    effort: Effort = field(default_factory=Effort)
    load_seconds: float = 5.0
    live_seconds: float = 600.0
    most_rows: int = 100_000


class Bench(AbstractContextManager["Bench"]):
    """A filled and folded database, and connections to it; closed at the end."""

    def __init__(
        self,
        settings: Settings,
        scale: Scale,
        anchor: datetime,
        options: Options,
        folder: Path,
        note: Callable[[str], None],
    ) -> None:
        """`note` hears what is being done; `folder` is a temporary one."""
        self.settings = settings
        self.scale = scale
        self.anchor = anchor
        self.options = options
        self.folder = folder
        self.note = note
        self._stack = ExitStack()
        self._next_number = _FIRST_ARRIVAL

    def __enter__(self) -> Self:
        self.runner = self._stack.enter_context(Runner())
        self.database = Database(self.settings)
        self.runner.run(self.database.open())
        self._stack.callback(self._close_database)
        self.connection = self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _close_database(self) -> None:
        self.runner.run(self.database.close())

    def connect(self, application_name: str = "session-analytics-benchmark") -> Any:
        """A connection in autocommit that lives as long as the run."""
        connection = psycopg.connect(
            self.settings.conninfo, autocommit=True, application_name=application_name
        )
        self._stack.callback(connection.close)
        return connection

    @cached_property
    def folding(self) -> Folder:
        """What folds."""
        return Folder(self.connect("session-analytics-benchmark-fold"), self.settings)

    @property
    def ground(self) -> Ground:
        """What contenders stand on."""
        return Ground(self.settings.conninfo, self.database, self.runner, self.folder, self.scale)

    def scope(self, name: str, days: int) -> Scope:
        """The scope of that name, for windows of that length."""
        return find_scope(self.connection, name, days, self.anchor)

    def numbers(self, count: int) -> range:
        """Numbers of sessions that nothing else of this run has."""
        first = self._next_number
        self._next_number += count
        return range(first, first + count)

    def question(self, name: str, days: int) -> Question:
        """A question at the anchor."""
        return Question(self.scope(name, days), days, self.anchor)
