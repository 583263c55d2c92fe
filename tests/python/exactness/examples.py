"""Rows that say what a test is about, and of everything else the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from exactness.world import Metrics, Session, World

__all__ = ["add", "archived", "metrics", "session"]


def metrics(
    created_at: datetime, session_type: str = "equity", user_id: str | None = "ann", **given: object
) -> Metrics:
    defaults: dict[str, object] = {
        "session": uuid4(),
        "duration_seconds": 60,
        "total_queries": 2,
        "assets": ["AAPL"],
        "query_types": {"price": 2},
        "tags": ["tech"],
        "abandoned": False,
        "completed": True,
    }
    return Metrics(
        created_at=created_at,
        session_type=session_type,
        user_id=user_id,
        **(defaults | given),  # type: ignore[arg-type]
    )


def archived(at: datetime, user_id: str | None = "ann") -> Session:
    return session(at - timedelta(hours=1), at, user_id=user_id, archived_at=at)


def session(
    created_at: datetime,
    expires_at: datetime | None,
    session_type: str = "equity",
    *,
    user_id: str | None = None,
    archived_at: datetime | None = None,
) -> Session:
    return Session(
        id=uuid4(),
        user_id=user_id,
        session_type=session_type,
        tags=[],
        created_at=created_at,
        expires_at=expires_at,
        is_archived=archived_at is not None,
        archived_at=archived_at,
    )


def add(world: World, *rows: Metrics) -> None:
    for row in rows:
        world.insert_metrics(0, [row], upsert=False)
