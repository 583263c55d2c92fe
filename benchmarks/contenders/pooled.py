"""Those that ask through the reader's pool: the floor, and the reader on each of its ways."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.answers import Answer
from benchmarks.contenders.base import Ground, Pooled
from benchmarks.project import Reader as ProjectReader
from benchmarks.questions import Question
from fiml.database import Connection
from fiml.sessions.analytics import SessionAnalytics

__all__ = ["ColdReader", "Floor", "Marts", "Now", "Reader"]


class Floor(Pooled):
    """What nothing that asks PostgreSQL can beat."""

    name: ClassVar[str] = "floor"
    title: ClassVar[str] = "`SELECT 1`, same pool"
    is_compared: ClassVar[bool] = False

    async def ask(self, question: Question) -> Answer:
        """No answer at all, in the least time."""
        del question

        async def select(connection: Connection) -> Answer:
            cursor = await connection.execute("select 1")
            await cursor.fetchone()
            return {}

        return await self._database.run(select, is_repeatable=True)


class Reader(Pooled):
    """This project's reader."""

    name: ClassVar[str] = "reader"
    title: ClassVar[str] = "this reader"
    path: ClassVar[str | None] = None

    def __init__(self, ground: Ground) -> None:
        """Make what an application makes once."""
        super().__init__(ground)
        self._reader = ProjectReader(path=self.path)

    async def ask(self, question: Question) -> Answer:
        """On the way that is this contender's."""
        return await self._reader.answer_through(self._database, question)


class ColdReader(Reader):
    """The reader without what it kept of the answers before."""

    name: ClassVar[str] = "reader_cold"
    title: ClassVar[str] = "this reader, nothing cached"

    def seconds(self, question: Question) -> float:
        """Forgetting is not counted."""
        self._reader.forget()
        return super().seconds(question)


class Marts(Reader):
    """The reader over the daily marts, as before there was a serving layer."""

    name: ClassVar[str] = "marts"
    title: ClassVar[str] = "daily marts, summed"
    path: ClassVar[str | None] = "marts"


class Now(Pooled):
    """The documented call: at the present, behind the end of the history."""

    name: ClassVar[str] = "reader_now"
    title: ClassVar[str] = "this reader, `get_session_stats` now"
    is_compared: ClassVar[bool] = False

    def __init__(self, ground: Ground) -> None:
        """Make what an application makes once."""
        super().__init__(ground)
        self._analytics = SessionAnalytics(ground.database)

    async def ask(self, question: Question) -> Answer:
        """At the database's own time, whatever the question says."""
        scope = question.scope
        return await self._analytics.get_session_stats(
            scope.user_id, scope.session_type, question.days
        )
