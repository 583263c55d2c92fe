"""A session as an application sees it: who asked what about which assets, and when.

All times are timezone-aware and kept in UTC; a naive `datetime` is an error. Names (symbols, tags,
query types, user ids) are kept byte for byte. Wrong values raise pydantic's `ValidationError`, a
`ValueError`, at construction and at assignment.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
)
from uuid_utils.compat import uuid7

from fiml.errors import SessionArchivedError
from fiml.sessions._arguments import (
    MAX_LIMIT,
    MAX_NAME_LENGTH,
    check_hours,
    check_json,
    check_whole_number,
    text_problem,
)
from fiml.sessions.session_types import SessionType

__all__ = [
    "AnalysisHistory",
    "QueryRecord",
    "Session",
    "SessionState",
    "SessionSummary",
    "SessionType",
]

DEFAULT_TTL_HOURS: Final = 24
# No query takes thirty thousand years; the archival's SQL takes no larger figure for a time either.
MAX_EXECUTION_MS: Final = 1e15
_LAST_MOMENT: Final = datetime.max.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 in UTC") from None


def _checked_text(text: str) -> str:
    problem = text_problem(text, is_name=False)
    if problem is not None:
        raise ValueError(problem)
    return text


def _checked_name(text: str) -> str:
    problem = text_problem(text)
    if problem is not None:
        raise ValueError(f"{problem}; expected 1 to {MAX_NAME_LENGTH}")
    return text


def _without_duplicates(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _known_type(value: str) -> SessionType | str:
    try:
        return SessionType(value)
    except ValueError:
        return _checked_text(value)


def _later_by(moment: datetime, hours: float) -> datetime:
    try:
        return moment + timedelta(hours=hours)
    except OverflowError:
        return _LAST_MOMENT


UtcDatetime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Text = Annotated[str, Field(strict=True), AfterValidator(_checked_text)]
Name = Annotated[str, Field(strict=True), AfterValidator(_checked_name)]
Names = Annotated[list[Name], AfterValidator(_without_duplicates)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, le=MAX_EXECUTION_MS, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
# A type that another program wrote is kept as its text: it still counts in the breakdown.
TypeOrText = Annotated[SessionType | str, AfterValidator(_known_type)]


class _Model(BaseModel):
    # Messages carry no user id: pydantic would quote what it was given.
    model_config = ConfigDict(extra="forbid", validate_assignment=True, hide_input_in_errors=True)


class QueryRecord(_Model):
    """One query of a session; never changes once it is made.

    Attributes:
        id: made with the record (UUIDv7), so that storing it twice stores it once.
        timestamp: when it was asked; default now.
        query_type: what kind of query, such as "price"; 1 to 255 characters.
        parameters: what was asked for; anything JSON can hold.
        result_summary: what came out; anything JSON can hold.
        execution_time_ms: milliseconds, 0 to 10^15; None where nobody measured.
        cache_hit: whether the answer came out of a cache.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID = Field(default_factory=uuid7)
    timestamp: UtcDatetime = Field(default_factory=_now)
    query_type: Name
    parameters: dict[str, Any] = Field(default_factory=dict)
    result_summary: Any = None
    execution_time_ms: Milliseconds | None = None
    cache_hit: StrictBool = False

    def check(self) -> None:
        """Check that JSON can hold what was asked and what came out.

        Raises:
            InvalidArgumentError: it cannot; the message names the place.
        """
        check_json(self.parameters, "parameters")
        check_json(self.result_summary, "result_summary")


class AnalysisHistory(_Model):
    """The queries of a session, oldest first as they were added.

    Attributes:
        queries: the records that this object holds.
        total_queries: at least as many; more where the database holds or counted queries that do
            not read as records.
    """

    queries: list[QueryRecord] = Field(default_factory=list)
    total_queries: Count = 0

    def model_post_init(self, context: Any, /) -> None:
        """Count at least the records that are held."""
        self.total_queries = max(self.total_queries, len(self.queries))

    @property
    def first_query_at(self) -> datetime | None:
        """When the earliest query was asked; None without queries."""
        return min((query.timestamp for query in self.queries), default=None)

    @property
    def last_query_at(self) -> datetime | None:
        """When the latest query was asked; None without queries."""
        return max((query.timestamp for query in self.queries), default=None)

    @property
    def cache_hit_rate(self) -> float:
        """Fraction of the queries held that came out of a cache, 0 to 1; 0.0 without queries."""
        if not self.queries:
            return 0.0
        return sum(query.cache_hit for query in self.queries) / len(self.queries)

    def add_query(self, query: QueryRecord) -> None:
        """Append a query; the same record added twice is stored once."""
        self.queries.append(query)
        self.total_queries += 1

    def get_recent_queries(self, limit: int = 10) -> list[QueryRecord]:
        """The latest queries by their time, newest first, at most `limit` of them.

        Raises:
            InvalidArgumentError: `limit` is no integer from 1 to 1000.
        """
        check_whole_number(limit, "limit", MAX_LIMIT)
        # Of two queries at one instant the one added later is the newer.
        newest_first = self.queries[::-1]
        newest_first.sort(key=attrgetter("timestamp"), reverse=True)
        return newest_first[:limit]

    def get_query_types_summary(self) -> dict[str, int]:
        """How often each query type was asked; most frequent first, then by name."""
        counts: dict[str, int] = {}
        for query in self.queries:
            counts[query.query_type] = counts.get(query.query_type, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0].encode())))


class SessionState(_Model):
    """What a session remembers. The members hold what JSON can hold."""

    context: dict[str, Any] = Field(default_factory=dict)
    history: AnalysisHistory = Field(default_factory=AnalysisHistory)
    preferences: dict[str, Any] = Field(default_factory=dict)
    intermediate_results: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)

    def update_context(self, key: str, value: Any) -> None:
        """Remember a value under a key, in place of what was there."""
        self.context[key] = value

    def get_context(self, key: str, default: Any = None) -> Any:
        """The value remembered under a key, or `default`."""
        return self.context.get(key, default)

    def store_intermediate_result(self, key: str, result: Any) -> None:
        """Keep a result under a key, in place of what was there."""
        self.intermediate_results[key] = result

    def get_intermediate_result(self, key: str, default: Any = None) -> Any:
        """The result kept under a key, or `default`."""
        return self.intermediate_results.get(key, default)


class _Lifetime(_Model):
    """What a whole session and its summary have in common."""

    id: UUID
    user_id: Text | None = None
    type: TypeOrText
    assets: Names = Field(default_factory=list)
    created_at: UtcDatetime
    expires_at: UtcDatetime | None
    last_accessed_at: UtcDatetime
    is_archived: StrictBool = False
    archived_at: UtcDatetime | None = None
    tags: Names = Field(default_factory=list)

    @property
    def is_expired(self) -> bool:
        """Whether its time is up; a session that has no expiry never counts as active."""
        return self.expires_at is None or self.expires_at <= _now()

    @property
    def time_remaining(self) -> timedelta:
        """Time until it expires; zero once it has, never negative."""
        if self.expires_at is None:
            return timedelta(0)
        return max(self.expires_at - _now(), timedelta(0))

    @property
    def duration(self) -> timedelta:
        """From creation to the earlier of archival (or now) and expiry, never negative."""
        end = self.archived_at if self.archived_at is not None else _now()
        if self.expires_at is not None:
            end = min(end, self.expires_at)
        return max(end - self.created_at, timedelta(0))


class SessionSummary(_Lifetime):
    """A session without its state.

    Attributes:
        total_queries: queries of its history, as its metrics would count them.
    """

    total_queries: Count = 0


class Session(_Lifetime):
    """One session. Changes are the object's own until `SessionStore.update_session` stores them.

    Attributes:
        id: UUIDv7.
        user_id: None where nobody is known.
        type: a `SessionType`; the text as it is stored where that is none of the known ones.
        assets: symbols in their order, each once.
        created_at: when it began.
        expires_at: when it ends unless it is extended; default 24 hours after its creation. None
            (another program wrote none) counts as expired.
        last_accessed_at: when the application last changed it; reading it changes nothing.
        state: context, history of queries, preferences, intermediate results, metadata.
        is_archived: whether it has ended and has its final metrics.
        archived_at: when that was.
        tags: in their order, each once.
    """

    id: UUID = Field(default_factory=uuid7)
    created_at: UtcDatetime = Field(default_factory=_now)
    expires_at: UtcDatetime | None = Field(
        default_factory=lambda data: _later_by(data["created_at"], DEFAULT_TTL_HOURS)
    )
    last_accessed_at: UtcDatetime = Field(default_factory=lambda data: data["created_at"])
    state: SessionState = Field(default_factory=SessionState)

    def extend(self, hours: float = DEFAULT_TTL_HOURS) -> None:
        """Move the expiry to `hours` after the later of now and itself; never shortens.

        Args:
            hours: above 0, up to ten years (87 600).

        Raises:
            InvalidArgumentError: `hours` is no such number.
            SessionArchivedError: the session has ended.
        """
        if self.is_archived:
            raise SessionArchivedError(f"session {self.id} is archived and cannot be extended")
        hours = check_hours(hours, "hours")
        now = _now()
        self.expires_at = _later_by(max(now, self.expires_at or now), hours)

    def touch(self) -> None:
        """Set `last_accessed_at` to now; never moves it back."""
        self.last_accessed_at = max(_now(), self.last_accessed_at)

    def add_query(self, query: QueryRecord) -> None:
        """Append a query to the history, and touch the session."""
        self.state.history.add_query(query)
        self.touch()

    def to_dict(self) -> dict[str, Any]:
        """The session as a dictionary that JSON can hold and `from_dict` reads back exactly.

        Raises:
            InvalidArgumentError: a value is none that JSON can hold; the message names the place.
        """
        for name in ("context", "preferences", "intermediate_results", "metadata"):
            check_json(getattr(self.state, name), name)
        for query in self.state.history.queries:
            query.check()
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The session that `to_dict` gave as a dictionary.

        Raises:
            ValidationError: the dictionary is none of a session.
        """
        return cls.model_validate(data)
