"""What the routes share: the reader, the gate, the hub, and who is asked how."""

from __future__ import annotations

from dataclasses import dataclass

from fiml.database import Connection
from fiml.monitoring.reads import Operation, Reading
from fiml.sessions.lazy_reader import LazyReader
from fiml.sessions.serving import ServingCache
from fiml.web.filters import Subject
from fiml.web.gate import Gate
from fiml.web.hub import Hub
from fiml.web.views import View, read_view

__all__ = ["Service", "Views"]


class Views:
    """Reads views through the reader of the application."""

    def __init__(self, reader: LazyReader) -> None:
        """Take the reader."""
        self._reader = reader
        self._cache = ServingCache()

    async def read(self, subject: Subject) -> View:
        """Read a view of a subject.

        Raises:
            InvalidArgumentError: its window is too long, or has too many periods.
            DatabaseError: the database did not answer; see its subclasses.
        """

        async def work(connection: Connection) -> View:
            return await read_view(connection, subject, self._cache)

        asked = {
            "session_type": subject.session_type,
            "days": subject.window.days,
            "grain": subject.grain,
        }
        with Reading(Operation.VIEW, asked):
            await self._reader.open()
            return await self._reader.database.run(work, is_repeatable=True)


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes share.

    Attributes:
        reader: answers.
        views: reads what a page shows.
        gate: knows who is asking.
        hub: keeps pages up to date.
    """

    reader: LazyReader
    views: Views
    gate: Gate
    hub: Hub
