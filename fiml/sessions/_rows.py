"""Rows of `sessions` as objects. Whatever other programs stored there, a session can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

from pydantic import ValidationError

from fiml.sessions._arguments import check_json, json_text, text_problem
from fiml.sessions.models import (
    AnalysisHistory,
    QueryRecord,
    Session,
    SessionState,
    SessionSummary,
)

__all__ = ["STATE_MEMBERS", "SessionRow", "SummaryRow", "query_text"]

STATE_MEMBERS: Final = ("context", "preferences", "intermediate_results", "metadata")
_RECORD_MEMBERS: Final = frozenset(QueryRecord.model_fields)
_UNREADABLE: Final = object()


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A row without its state; JSON columns as text."""

    id: UUID
    user_id: str | None
    type: str
    assets: str | None
    tags: str | None
    created_at: datetime | None
    expires_at: datetime | None
    last_accessed_at: datetime | None
    is_archived: bool
    archived_at: datetime | None
    total_queries: int

    def summary(self) -> SessionSummary:
        """The row as a summary."""
        return SessionSummary(**self._fields(), total_queries=self.total_queries)

    def _fields(self) -> dict[str, Any]:
        created_at = self.created_at or datetime.min.replace(tzinfo=UTC)
        return {
            "id": self.id,
            "user_id": self.user_id,
            "type": self.type,
            "assets": _names(self.assets),
            "tags": _names(self.tags),
            "created_at": created_at,
            "expires_at": self.expires_at,
            "last_accessed_at": self.last_accessed_at or created_at,
            "is_archived": self.is_archived,
            "archived_at": self.archived_at,
        }


@dataclass(frozen=True, slots=True)
class SessionRow(SummaryRow):
    """A whole row: the members of its state, and each element of its history, as text."""

    context: str | None
    preferences: str | None
    intermediate_results: str | None
    metadata: str | None
    query_history: Sequence[str]

    def session(self) -> Session:
        """The row as a session. History elements that are no query records are left out."""
        records = [record for _, record in self._history() if record is not None]
        state = SessionState(
            **{name: _object(getattr(self, name)) or {} for name in STATE_MEMBERS},
            history=AnalysisHistory(queries=records, total_queries=self.total_queries),
        )
        return Session(**self._fields(), state=state)

    def stored_query_ids(self) -> set[UUID]:
        """The id of every history element, of those that are no records as well."""
        return {element_id for element_id, _ in self._history()}

    def changed_state(self, state: SessionState) -> dict[str, Any]:
        """The members of a state that differ from the row's.

        What does not read as an object stays as it is until something is put in its place.
        """
        return {
            name: getattr(state, name)
            for name in STATE_MEMBERS
            if getattr(state, name) != (_object(getattr(self, name)) or {})
        }

    def _history(self) -> list[tuple[UUID, QueryRecord | None]]:
        return [
            _read_element(self.id, position, text)
            for position, text in enumerate(self.query_history)
        ]


def query_text(query: QueryRecord) -> str:
    """A query record as the JSON text that a history holds.

    Raises:
        InvalidArgumentError: JSON cannot hold it; the message names the place.
    """
    query.check()
    return json_text(query.model_dump(mode="json"), "query")


def _read_element(session_id: UUID, position: int, text: str) -> tuple[UUID, QueryRecord | None]:
    # Of an element that another program wrote without an id, the id is its place: the same at
    # every load, so that storing what was loaded doubles nothing.
    element_id = uuid5(session_id, str(position))
    element = _parsed(text)
    if not isinstance(element, dict):
        return element_id, None
    given = element.get("id")
    if isinstance(given, str):
        with suppress(ValueError):
            element_id = UUID(given)
    # A record made here has a time by default; one that was stored without has none to tell.
    if not isinstance(element.get("timestamp"), str):
        return element_id, None
    known = {name: value for name, value in element.items() if name in _RECORD_MEMBERS}
    try:
        return element_id, QueryRecord.model_validate(known | {"id": element_id})
    except ValidationError:
        return element_id, None


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
        # PostgreSQL holds longer numbers and deeper nesting than Python reads, or can write again.
        check_json(value, "value")
    except (ValueError, RecursionError):
        return _UNREADABLE
    return value


def _object(text: str | None) -> dict[str, Any] | None:
    value = _parsed(text)
    return value if isinstance(value, dict) else None


def _names(text: str | None) -> list[str]:
    value = _parsed(text)
    if not isinstance(value, list):
        return []
    return [name for name in value if isinstance(name, str) and text_problem(name) is None]
