"""What an application was told, and whether the tables keep it.

An acknowledged operation must be there, once. One whose caller got an error instead of an answer is
in doubt: it may be there once, or not at all. Anything else that the tables hold is a ghost.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from sessions.metrics_oracle import metrics_of, read_metrics, read_sessions

__all__ = ["Ledger"]


@dataclass
class Entry:
    """One session, known by its one tag from the moment somebody asked for it.

    Attributes:
        user_id, session_type: what was asked for.
        session_id: none where the answer never came.
        queries, queries_in_doubt: ids of query records.
        is_archived, is_deleted: what was answered.
        is_end_in_doubt: an archival or a deletion was asked for and not answered.
    """

    user_id: str | None
    session_type: str
    session_id: UUID | None = None
    queries: set[UUID] = field(default_factory=set)
    queries_in_doubt: set[UUID] = field(default_factory=set)
    is_archived: bool = False
    is_deleted: bool = False
    is_end_in_doubt: bool = False


class Ledger:
    """All sessions that applications asked for; safe for threads that write different entries."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def open(self, user_id: str | None, session_type: str) -> tuple[str, Entry]:
        """A new entry, in doubt until it has an id, and the tag that its session must have."""
        with self._lock:
            tag = f"entry {len(self._entries)}"
            entry = self._entries[tag] = Entry(user_id, session_type)
        return tag, entry

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def acknowledged(self) -> int:
        """Sessions whose creation was answered."""
        return sum(entry.session_id is not None for entry in self._entries.values())

    def check(self, connection: psycopg.Connection[Any]) -> None:
        """Compare with both tables, in one snapshot; nobody may be writing."""
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            sessions, metrics = read_sessions(connection), read_metrics(connection)
            rows = connection.execute(
                "select tags ->> 0, id, user_id, type, is_archived, "
                "array(select (query ->> 'id')::uuid "
                "from jsonb_array_elements(query_history) as query) from sessions"
            ).fetchall()
        stored: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for tag, *rest in rows:
            stored[tag].append(tuple(rest))
        assert stored.keys() <= self._entries.keys(), "sessions that nobody asked for"
        for tag, entry in self._entries.items():
            _check_entry(tag, entry, stored[tag])
        # A session and its metrics are one: written together, taken out together.
        expected = {key: metrics_of(row) for key, row in sessions.items() if row.is_archived}
        assert metrics.keys() == expected.keys()
        for session_id, row in expected.items():
            assert metrics[session_id] == row


def _check_entry(tag: str, entry: Entry, stored: list[tuple[Any, ...]]) -> None:
    assert len(stored) <= 1, f"{tag} is there twice"
    if not stored:
        assert entry.session_id is None or entry.is_deleted or entry.is_end_in_doubt, (
            f"{tag} is lost"
        )
        return
    session_id, user_id, session_type, is_archived, queries = stored[0]
    assert not entry.is_deleted, f"{tag} was deleted"
    assert entry.session_id in {None, session_id}, tag
    assert (user_id, session_type) == (entry.user_id, entry.session_type), tag
    assert len(queries) == len(set(queries)), f"{tag} has a query twice"
    assert entry.queries <= set(queries), f"{tag} lost a query"
    assert set(queries) <= entry.queries | entry.queries_in_doubt, f"{tag} has a ghost query"
    assert is_archived or not entry.is_archived, f"{tag} was archived"
