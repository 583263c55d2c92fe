"""Rows loaded through an ORM and counted in Python: what applications commonly do."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

import psycopg
from sqlalchemy import JSON, DateTime, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.answers import Answer, Tally
from benchmarks.contenders.base import Contender, Ground
from benchmarks.questions import Question

__all__ = ["MOST_ROWS", "Orm"]

# A second for every thirty thousand rows, and two kilobytes for each.
MOST_ROWS: Final = 600_000


class _Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: DateTime(timezone=True)}


class _SessionMetrics(_Base):
    __tablename__ = "session_metrics"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str | None]
    session_type: Mapped[str]
    created_at: Mapped[datetime]
    duration_seconds: Mapped[int]
    total_queries: Mapped[int]
    assets_analyzed: Mapped[list[str]] = mapped_column(JSON)
    query_type_summary: Mapped[dict[str, int]] = mapped_column(JSON)
    tags: Mapped[list[str]] = mapped_column(JSON)
    abandoned: Mapped[bool]


class _Session(_Base):
    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str | None]
    type: Mapped[str]
    is_archived: Mapped[bool]
    archived_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class Orm(Contender):
    """SQLAlchemy entities of the window, counted with `Counter`."""

    name: ClassVar[str] = "orm"
    title: ClassVar[str] = "rows through an ORM, counted in Python"

    def __init__(self, ground: Ground) -> None:
        """Make an engine with a pool of its own."""
        self._engine = create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(ground.conninfo)
        )

    def declines(self, question: Question, rows: int) -> str | None:
        """More rows than somebody would wait for."""
        del question
        return f"more than {MOST_ROWS:,} rows to load" if rows > MOST_ROWS else None

    def answer(self, question: Question) -> Answer:
        """Load the window's metrics, count; sessions are counted by the server."""
        scope = question.scope
        recorded = select(_SessionMetrics).where(
            _SessionMetrics.created_at >= question.since,
            _SessionMetrics.created_at < question.as_of,
        )
        sessions: list[Any] = []
        if scope.user_id is not None:
            recorded = recorded.where(_SessionMetrics.user_id == scope.user_id)
            sessions.append(_Session.user_id == scope.user_id)
        if scope.session_type is not None:
            recorded = recorded.where(_SessionMetrics.session_type == scope.session_type)
            sessions.append(_Session.type == scope.session_type)
        tally = Tally()
        with Session(self._engine) as session:
            for metrics in session.scalars(recorded):
                tally.types[metrics.session_type] += 1
                tally.queries += metrics.total_queries
                tally.duration_seconds += metrics.duration_seconds
                tally.abandoned += metrics.abandoned
                tally.assets.update(metrics.assets_analyzed)
                tally.tags.update(metrics.tags)
                tally.query_types.update(metrics.query_type_summary)
            tally.archived = session.scalars(
                select(func.count())
                .select_from(_Session)
                .where(
                    _Session.is_archived,
                    _Session.archived_at >= question.since,
                    _Session.archived_at < question.as_of,
                    *sessions,
                )
            ).one()
            tally.active = session.scalars(
                select(func.count())
                .select_from(_Session)
                .where(~_Session.is_archived, _Session.expires_at > question.as_of, *sessions)
            ).one()
        return tally.answer(question)

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()
