"""A sample history of sessions: the same seed and the same anchor give the same rows.

About a hundred days of a product that grows: busy on workdays and in office hours, few users with
many sessions and many users with few, popular symbols and rare ones. Nearly everything has ended
and is archived; the archiver has been away for the last days, so some sessions have expired and
wait for it; some are active.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from fiml.demo.catalogue import (
    COINS,
    MACRO_SERIES,
    QUERY_TYPES,
    QUERY_WEIGHTS,
    STOCKS,
    TAGS,
    TYPE_WEIGHTS,
)
from fiml.sessions.models import SessionType

__all__ = ["DAYS", "HEAVY_USER", "SESSIONS", "SampleSession", "generate", "load"]

DAYS: Final = 100
SESSIONS: Final = 40_000
USERS: Final = 1_550
HEAVY_USER: Final = "analyst_001"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_ARCHIVER_PERIOD: Final = timedelta(minutes=15)
_WAITING_SHARE: Final = 0.015
_ANONYMOUS_SHARE: Final = 0.08
_EXPLICIT_SHARE: Final = 0.52
_GROWTH: Final = 1.2

_TTL_HOURS: Final = (2, 8, 24)
_TTL_WEIGHTS: Final = (30, 30, 40)
_WEEKDAY_WEIGHTS: Final = (1.05, 1.12, 1.1, 1.04, 0.92, 0.34, 0.4)
# UTC: Europe's morning, then Europe and America together.
_HOUR_WEIGHTS: Final = (
    *(3.0, 2.4, 2.0, 1.8, 1.8, 2.2, 3.2, 5.0, 7.6, 9.2, 9.6, 9.2),
    *(8.8, 10.4, 12.0, 12.6, 12.0, 10.6, 9.0, 7.8, 6.4, 5.2, 4.4, 3.6),
)
_ASSETS_OF_A_SESSION: Final = {
    SessionType.EQUITY: (1, 3),
    SessionType.CRYPTO: (1, 3),
    SessionType.PORTFOLIO: (4, 10),
    SessionType.COMPARATIVE: (2, 5),
    SessionType.MACRO: (0, 2),
}
_TAG_COUNTS: Final = (0, 1, 2, 3, 4)
_TAG_COUNT_WEIGHTS: Final = (18, 34, 28, 14, 6)
_TYPICAL_MS: Final = dict(zip(QUERY_TYPES, (60, 240, 320, 180, 420, 900, 650, 1400), strict=True))

# In the order in which they were archived, so that the ids are what archival would have given.
_RECORD_METRICS: Final = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries, cache_hit_rate,
    avg_query_time_ms, assets_analyzed, query_type_summary, completed_normally, abandoned, tags,
    recorded_at
)
select
    sessions.id, sessions.user_id, sessions.type, sessions.created_at, metrics.duration_seconds,
    metrics.total_queries, metrics.cache_hit_rate, metrics.avg_query_time_ms, sessions.assets,
    metrics.query_type_summary, metrics.completed_normally, metrics.abandoned, sessions.tags,
    sessions.archived_at
from sessions
cross join lateral analytics.metrics_of(
    sessions.created_at, sessions.expires_at, sessions.query_history, sessions.total_queries,
    sessions.archived_at
) as metrics
where
    sessions.is_archived
    and sessions.archived_at >= %(archived_from)s
    and sessions.archived_at < %(archived_before)s
order by sessions.archived_at, sessions.id
"""


@dataclass(frozen=True, slots=True)
class SampleSession:
    """One row of `sessions`; the JSON columns as text."""

    id: UUID
    user_id: str | None
    type: SessionType
    assets: str
    tags: str
    created_at: datetime
    expires_at: datetime
    last_accessed_at: datetime
    query_history: str
    total_queries: int
    archived_at: datetime | None


_COLUMNS: Final = (
    "id",
    "user_id",
    "type",
    "assets",
    "tags",
    "created_at",
    "expires_at",
    "last_accessed_at",
    "query_history",
    "total_queries",
    "archived_at",
    "is_archived",
)


class _Popular:
    """Draws from names of which the first is the most popular: Zipf's law with a blunt tip."""

    def __init__(self, names: Sequence[str], exponent: float, blunt: float) -> None:
        self.names = names
        self._bounds = list(
            accumulate((rank + blunt) ** -exponent for rank in range(1, len(names) + 1))
        )

    def draw(self, rng: random.Random) -> str:
        return self.names[bisect_right(self._bounds, rng.random() * self._bounds[-1])]


@dataclass(frozen=True, slots=True)
class _User:
    id: str
    joined_at: datetime
    favourite_type: SessionType
    stocks: tuple[str, ...]
    coins: tuple[str, ...]


class _World:
    """Who uses the product, and what there is to look at."""

    def __init__(self, rng: random.Random, begin: datetime) -> None:
        self.stocks = _Popular(STOCKS, 0.95, 2.0)
        self.coins = _Popular(COINS, 1.1, 0.7)
        self.macro_series = _Popular(MACRO_SERIES, 0.9, 1.0)
        self.tags = _Popular(TAGS, 0.9, 1.5)
        self._types = tuple(TYPE_WEIGHTS)
        self._type_bounds = list(accumulate(TYPE_WEIGHTS.values()))
        users = [f"analyst_{number:03d}" for number in range(1, USERS + 1)]
        self._user_ids = _Popular(users, 0.9, 5.0)
        self._users = {user: self._make_user(rng, user, begin) for user in users}

    def _make_user(self, rng: random.Random, user_id: str, begin: datetime) -> _User:
        # Half of the users were there before the history begins.
        joined_after = timedelta(days=DAYS * max(0.0, rng.uniform(-1.0, 0.97)))
        return _User(
            id=user_id,
            joined_at=begin if user_id == HEAVY_USER else begin + joined_after,
            favourite_type=self.draw_type(rng),
            stocks=tuple(self.stocks.draw(rng) for _ in range(8)),
            coins=tuple(self.coins.draw(rng) for _ in range(4)),
        )

    def draw_type(self, rng: random.Random) -> SessionType:
        return self._types[bisect_right(self._type_bounds, rng.random() * self._type_bounds[-1])]

    def draw_user(self, rng: random.Random, at: datetime) -> _User | None:
        if rng.random() < _ANONYMOUS_SHARE:
            return None
        while True:
            user = self._users[self._user_ids.draw(rng)]
            if user.joined_at <= at:
                return user

    def draw_assets(
        self, rng: random.Random, session_type: SessionType, user: _User | None
    ) -> list[str]:
        fewest, most = _ASSETS_OF_A_SESSION[session_type]
        wanted = rng.randint(fewest, most)
        chosen: dict[str, None] = {}
        while len(chosen) < wanted:
            chosen[self._draw_asset(rng, session_type, user)] = None
        return list(chosen)

    def _draw_asset(self, rng: random.Random, session_type: SessionType, user: _User | None) -> str:
        if session_type is SessionType.MACRO:
            return self.macro_series.draw(rng)
        is_coin = session_type is SessionType.CRYPTO or (
            session_type is not SessionType.EQUITY and rng.random() < 0.2
        )
        # People come back to what they hold.
        if user is not None and rng.random() < 0.45:
            return rng.choice(user.coins if is_coin else user.stocks)
        return (self.coins if is_coin else self.stocks).draw(rng)


def generate(anchor: datetime, *, sessions: int = SESSIONS, seed: int = 1) -> list[SampleSession]:
    """Make the history of the `DAYS` days before `anchor`, in the order in which sessions began.

    Args:
        anchor: the present of the history, timezone-aware; nothing in it is later except expiries.
        sessions: how many, at least 1.
        seed: another one gives another history of the same shape.
    """
    rng = random.Random(seed)  # noqa: S311 - sample data is no secret
    begin = anchor - timedelta(days=DAYS)
    world = _World(rng, begin)
    drafts = [_draw_session(rng, world, at, anchor) for at in _starts(rng, begin, sessions)]
    # Those that expired last are still waiting for the archiver.
    expired = sorted(
        (draft.expires_at, draft.id)
        for draft in drafts
        if draft.archived_at is None and draft.expires_at <= anchor
    )
    waiting = {session_id for _, session_id in expired[-max(1, round(sessions * _WAITING_SHARE)) :]}
    return [
        _archived_after_expiry(draft)
        if draft.archived_at is None and draft.expires_at <= anchor and draft.id not in waiting
        else draft
        for draft in drafts
    ]


def _starts(rng: random.Random, begin: datetime, sessions: int) -> list[datetime]:
    hours = [begin + number * _HOUR for number in range(DAYS * 24)]
    weights: list[float] = []
    mood = 1.0
    for number, hour in enumerate(hours):
        if number % 24 == 0:
            mood = rng.uniform(0.9, 1.1)
        growth = 1 + _GROWTH * number / len(hours)
        weights.append(growth * mood * _WEEKDAY_WEIGHTS[hour.weekday()] * _HOUR_WEIGHTS[hour.hour])
    bounds = list(accumulate(weights))
    return sorted(
        hours[bisect_right(bounds, rng.random() * bounds[-1])]
        + timedelta(microseconds=rng.randrange(3_600_000_000))
        for _ in range(sessions)
    )


def _draw_session(
    rng: random.Random, world: _World, created_at: datetime, anchor: datetime
) -> SampleSession:
    user = world.draw_user(rng, created_at)
    is_usual = user is not None and rng.random() < 0.5
    session_type = user.favourite_type if user and is_usual else world.draw_type(rng)
    assets = world.draw_assets(rng, session_type, user)
    tags = list(
        dict.fromkeys(
            world.tags.draw(rng) for _ in range(rng.choices(_TAG_COUNTS, _TAG_COUNT_WEIGHTS)[0])
        )
    )
    expires_at = created_at + rng.choices(_TTL_HOURS, _TTL_WEIGHTS)[0] * _HOUR
    is_closed = rng.random() < _EXPLICIT_SHARE
    queries = _draw_queries(
        rng,
        created_at,
        ends_before=min(expires_at, anchor),
        wanted=_number_of_queries(rng, is_engaged=is_closed),
        weights=QUERY_WEIGHTS[session_type],
        assets=assets,
    )
    last_asked_at = datetime.fromisoformat(queries[-1]["timestamp"]) if queries else created_at
    closes_at = last_asked_at + timedelta(seconds=round(rng.expovariate(1 / 240), 3) + 5)
    is_closed = is_closed and closes_at < min(expires_at, anchor)
    return SampleSession(
        id=_uuid7(rng, created_at),
        user_id=user.id if user else None,
        type=session_type,
        assets=json.dumps(assets),
        tags=json.dumps(tags),
        created_at=created_at,
        expires_at=expires_at,
        last_accessed_at=last_asked_at,
        query_history=json.dumps(queries),
        total_queries=len(queries),
        archived_at=closes_at if is_closed else None,
    )


def _number_of_queries(rng: random.Random, *, is_engaged: bool) -> int:
    if not is_engaged:
        lot = rng.random()
        if lot < 0.31:
            return 0 if lot < 0.12 else 1
    return (1 if is_engaged else 2) + min(int(rng.expovariate(1 / 4.4)), 60)


def _draw_queries(
    rng: random.Random,
    created_at: datetime,
    *,
    ends_before: datetime,
    wanted: int,
    weights: Sequence[int],
    assets: Sequence[str],
) -> list[dict[str, Any]]:
    queries: list[dict[str, Any]] = []
    asked_at = created_at
    for query_type in rng.choices(QUERY_TYPES, weights, k=wanted):
        # Mostly in one go, now and then after a break.
        pause = 110 if rng.random() < 0.93 else 2_400
        asked_at += timedelta(seconds=round(rng.expovariate(1 / pause), 3) + 1)
        if asked_at >= ends_before:
            break
        is_hit = bool(queries) and rng.random() < 0.38
        typical_ms = 6 if is_hit else _TYPICAL_MS[query_type]
        queries.append(
            {
                "id": str(_uuid7(rng, asked_at)),
                "timestamp": asked_at.isoformat(),
                "query_type": query_type,
                "parameters": {"symbol": rng.choice(assets)} if assets else {},
                "result_summary": None,
                "execution_time_ms": round(typical_ms * rng.lognormvariate(0, 0.5), 1),
                "cache_hit": is_hit,
            }
        )
    return queries


def _archived_after_expiry(session: SampleSession) -> SampleSession:
    since_midnight = session.expires_at - session.expires_at.replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return replace(
        session,
        archived_at=session.expires_at + _ARCHIVER_PERIOD - since_midnight % _ARCHIVER_PERIOD,
    )


def _uuid7(rng: random.Random, moment: datetime) -> UUID:
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    high, low = rng.getrandbits(12), rng.getrandbits(62)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def load(
    connection: psycopg.Connection[Any],
    history: Sequence[SampleSession],
    source_schema: str = "public",
    *,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Write a history into a migrated database, in one transaction.

    What has ended gets the metrics that archival would have given it at that time, by the SQL
    function that archival uses.

    Args:
        connection: in autocommit, so that the transaction is this function's own.
        history: as `generate` makes it; none of its sessions may be there already.
        source_schema: the schema of `sessions` and `session_metrics`.
        on_progress: called with the fraction done, above 0 and up to 1.

    Raises:
        psycopg.Error: the server refused; nothing was written.
    """

    def report(fraction: float) -> None:
        if on_progress is not None:
            on_progress(fraction)

    with connection.transaction():
        connection.execute(
            sql.SQL("set local search_path = {}, pg_temp").format(sql.Identifier(source_schema))
        )
        columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
        with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("copy sessions ({}) from stdin").format(columns)) as copy,
        ):
            for number, session in enumerate(history, start=1):
                copy.write_row(_row(session))
                if number % 2_000 == 0 or number == len(history):
                    report(0.5 * number / len(history))
        bounds = _spread_evenly([session.archived_at for session in history if session.archived_at])
        for number, (archived_from, archived_before) in enumerate(pairwise(bounds), start=1):
            connection.execute(
                _RECORD_METRICS,
                {"archived_from": archived_from, "archived_before": archived_before},
            )
            report(0.5 + 0.5 * number / (len(bounds) - 1))
    connection.execute("analyze")


def _spread_evenly(moments: list[datetime]) -> list[datetime]:
    """Bounds of ranges that hold about as many of the moments each, and together all of them."""
    moments = sorted(moments)
    inner = moments[:: max(1, len(moments) // 8)]
    return [*inner, moments[-1] + timedelta(microseconds=1)] if moments else []


def _row(session: SampleSession) -> tuple[object, ...]:
    return (
        session.id,
        session.user_id,
        session.type.value,
        session.assets,
        session.tags,
        session.created_at,
        session.expires_at,
        session.last_accessed_at,
        session.query_history,
        session.total_queries,
        session.archived_at,
        session.archived_at is not None,
    )
