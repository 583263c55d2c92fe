"""The metrics of a session, computed from what is stored of it by other means than the archival."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

INTEGER_MAX = 2**31 - 1
MAX_EXECUTION_MS = 10**15


@dataclass(frozen=True)
class Stored:
    """A row of `sessions`; times in seconds since 1970, as text because some are infinite."""

    id: UUID
    user_id: str | None
    type: str
    assets: str
    tags: str
    created_at: str
    expires_at: str | None
    archived_at: str | None
    is_archived: bool
    query_history: str
    total_queries: int


@dataclass(frozen=True)
class Metrics:
    """A row of `session_metrics`."""

    session_id: UUID
    user_id: str | None
    session_type: str
    created_at: Decimal
    duration_seconds: int
    total_queries: int
    cache_hit_rate: Decimal
    avg_query_time_ms: Decimal | None
    assets_analyzed: Any
    query_type_summary: dict[str, int]
    completed_normally: bool
    abandoned: bool
    tags: Any


def read_sessions(connection: psycopg.Connection[Any]) -> dict[UUID, Stored]:
    with connection.cursor(row_factory=class_row(Stored)) as cursor:
        cursor.execute(
            """
            select
                id, user_id, type, assets::text as assets, tags::text as tags,
                extract(epoch from created_at)::text as created_at,
                extract(epoch from expires_at)::text as expires_at,
                extract(epoch from archived_at)::text as archived_at,
                is_archived, query_history::text as query_history, total_queries
            from sessions
            """
        )
        return {row.id: row for row in cursor}


def read_metrics(connection: psycopg.Connection[Any]) -> dict[UUID, Metrics]:
    """Every metrics row; none twice, or the table's key has failed."""
    with connection.cursor(row_factory=class_row(Metrics)) as cursor:
        cursor.execute(
            """
            select
                session_id, user_id, session_type,
                extract(epoch from created_at) as created_at,
                duration_seconds, total_queries, cache_hit_rate::numeric as cache_hit_rate,
                avg_query_time_ms::numeric as avg_query_time_ms, assets_analyzed,
                query_type_summary, completed_normally, abandoned, tags
            from session_metrics
            """
        )
        rows = cursor.fetchall()
    found = {row.session_id: row for row in rows}
    assert len(found) == len(rows)
    return found


def metrics_of(stored: Stored, ended_at: str | None = None) -> Metrics:
    """What the metrics of a session must be that ended when it was archived, or at `ended_at`."""
    end = Decimal(stored.archived_at or ended_at or "NaN")
    expiry = None if stored.expires_at is None else Decimal(stored.expires_at)
    is_explicit = expiry is not None and expiry > end
    queries = _queries(stored.query_history)
    total = max(stored.total_queries, len(queries), 0)
    with localcontext(Context(prec=1000)):
        times = [
            time
            for query in queries
            if isinstance(time := query.get("execution_time_ms"), Decimal)
            and 0 <= time <= MAX_EXECUTION_MS
        ]
        return Metrics(
            session_id=stored.id,
            user_id=stored.user_id,
            session_type=stored.type,
            created_at=Decimal(stored.created_at),
            duration_seconds=_duration(
                Decimal(stored.created_at), end if expiry is None else min(end, expiry)
            ),
            total_queries=total,
            cache_hit_rate=_mean([int(query.get("cache_hit") is True) for query in queries], 6)
            or Decimal(0),
            avg_query_time_ms=_mean(times, 3),
            assets_analyzed=json.loads(stored.assets),
            query_type_summary=dict(
                Counter(
                    kind
                    for query in queries
                    if isinstance(kind := query.get("query_type"), str) and 1 <= len(kind) <= 255
                )
            ),
            completed_normally=is_explicit,
            abandoned=not is_explicit and total < 2,
            tags=json.loads(stored.tags),
        )


def _queries(history: str) -> list[dict[str, Any]]:
    elements = json.loads(history, parse_int=Decimal, parse_float=Decimal)
    if not isinstance(elements, list):
        return []
    return [element for element in elements if isinstance(element, dict)]


def _duration(start: Decimal, end: Decimal) -> int:
    if not (start.is_finite() and end.is_finite()):
        return 0
    seconds = int((end - start).to_integral_value(ROUND_FLOOR))
    return min(max(seconds, 0), INTEGER_MAX)


def _mean(values: list[Any], places: int) -> Decimal | None:
    if not values:
        return None
    mean = Decimal(sum(values)) / len(values)
    return mean.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
