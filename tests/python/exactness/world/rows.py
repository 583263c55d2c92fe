"""Rows of the two source tables, as writers write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

__all__ = ["Metrics", "Session"]


@dataclass(frozen=True)
class Metrics:
    """A session_metrics row."""

    session: UUID
    user_id: str | None
    session_type: str
    created_at: datetime
    duration_seconds: int
    total_queries: int
    assets: Any
    query_types: Any
    tags: Any
    abandoned: bool
    completed: bool


@dataclass(frozen=True)
class Session:
    """A sessions row."""

    id: UUID
    user_id: str | None
    session_type: str
    tags: Any
    created_at: datetime
    expires_at: datetime | None
    is_archived: bool
    archived_at: datetime | None
