"""What the statements return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["ActiveRow", "CountRow", "MetaRow", "StatsRow", "WindowPart"]


@dataclass(frozen=True, slots=True)
class StatsRow:
    """The sums of one session type in a period, counted from 1."""

    period: int
    session_type: str
    sessions: int
    queries: int
    duration_seconds: int
    abandoned_sessions: int
    archived_sessions: int


@dataclass(frozen=True, slots=True)
class CountRow:
    """A name (symbol, tag or query type) and its count in a period, counted from 1."""

    period: int
    name: str
    occurrences: int


@dataclass(frozen=True, slots=True)
class ActiveRow:
    """Sessions that are active at `as_of`, and what the other figures are read from."""

    active_sessions: int
    path: str


@dataclass(frozen=True, slots=True)
class MetaRow:
    """Where an answer came from."""

    as_of: datetime
    window_start: datetime
    horizon: datetime | None
    path: str
    watermark: str | None
    serving_rows: int
    mart_rows: int
    tail_rows: int
    source_rows: int
    set_aside_values: int


@dataclass(frozen=True, slots=True)
class WindowPart:
    """A part of a window, to be counted `sign` times; see analytics.read_window.

    Names are JSON arrays with an element for each session, as stored.
    """

    part: str
    sign: int
    fact_rows: int | None
    sessions: int | None
    queries: int | None
    duration_seconds: int | None
    abandoned_sessions: int | None
    archived_sessions: int | None
    set_aside_values: int | None
    open_sessions: int | None
    session_types: str | None
    assets: str | None
    query_types: str | None
    tags: str | None
    entries: bytes | None
    etag: int | None
    incarnation: str | None
    as_of: datetime | None
    window_start: datetime | None
    horizon: datetime | None
    watermark: str | None
