"""All SQL of the reader: one statement for each question, parameters only.

An answer is the same sum for every figure:

    source rows of the partial first day            [since, mart_from)
    + mart rows of the whole days                   [mart_from, day_end)
    + feed rows that the mart has not seen          of the same days
    - source rows of the last day dated from `as_of` on

Each mart is taken at its own watermark. A mart that cannot be trusted (not built yet, or restored
from another cluster) starts at the end of the window, so that everything comes from the source: the
fallback is a value, not another path. Behind the retention horizon there are only whole days, in
the marts.

A user's figures come from the user's own source rows, through (user_id, created_at).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

__all__ = [
    "BEGIN",
    "COMMIT",
    "RECORD",
    "ActiveRow",
    "CountRow",
    "MetaRow",
    "Question",
    "StatsRow",
    "question_for",
]

# One snapshot for all statements of one answer; transaction_timestamp() is the same in each.
BEGIN: Final = "begin isolation level repeatable read read only"
COMMIT: Final = "commit"

RECORD: Final = "select analytics.record_session_metrics(%s, %s::jsonb)"


@dataclass(frozen=True, slots=True)
class StatsRow:
    """The sums of one session type in the window."""

    session_type: str
    sessions: int
    queries: int
    duration_seconds: int
    abandoned_sessions: int
    archived_sessions: int


@dataclass(frozen=True, slots=True)
class CountRow:
    """A name (symbol, tag or query type) and its count in the window."""

    name: str
    occurrences: int


@dataclass(frozen=True, slots=True)
class ActiveRow:
    """Sessions that are active at `as_of`."""

    active_sessions: int


@dataclass(frozen=True, slots=True)
class MetaRow:
    """Where an answer came from."""

    as_of: datetime
    window_start: datetime
    horizon: datetime | None
    watermark: str | None
    mart_rows: int
    tail_rows: int
    source_rows: int
    set_aside_values: int


@dataclass(frozen=True, slots=True)
class Question:
    """The statements that answer for one kind of filter."""

    stats: str
    assets: str
    query_types: str
    tags: str
    active: str
    meta: str
    session_metrics_rows: str


# `as_of` is a parameter so that a test can stand at any microsecond; callers leave it null, and the
# statement's own transaction supplies it.
_WINDOW: Final = """
clock as materialized (
    select
        coalesce(%(as_of)s::timestamptz, transaction_timestamp()) as as_of,
        coalesce(%(as_of)s::timestamptz, transaction_timestamp())
            - %(days)s::integer * interval '24 hours' as since,
        analytics.horizon() as horizon
)"""

_FRAME: Final = (
    _WINDOW
    + """,
days as materialized (
    select
        clock.as_of,
        clock.since,
        clock.horizon,
        date_trunc('day', clock.since, 'UTC') as first_day,
        -- The first midnight that is not before the window begins.
        date_trunc('day', clock.since + interval '24 hours' - interval '1 microsecond', 'UTC')
            as first_midnight,
        date_trunc('day', clock.as_of, 'UTC') + interval '24 hours' as day_end
    from clock
),
frame as materialized (
    select
        days.as_of,
        days.since,
        days.horizon,
        days.day_end,
        mart_states.watermark,
        greatest(days.since, days.horizon) as source_from,
        case
            when mart_states.watermark is null then days.day_end
            else greatest(days.first_midnight, days.horizon)
        end as source_until,
        case
            when days.since < days.horizon then days.first_day
            when mart_states.watermark is null then days.day_end
            else days.first_midnight
        end as mart_from,
        case
            when mart_states.watermark is null then days.horizon
            else days.day_end
        end as mart_until
    from days
    -- A mart that nobody knows of is one that cannot be trusted.
    left join analytics.mart_states on mart_states.mart = '{mart}'
)"""
)

# What each part of the answer reads. {select_*} take a mart row, or a fact times its weight.
_PARTS: Final = """
parts as (
    select {mart_columns}
    from frame
    inner join marts.{mart} as mart
        on
            mart.activity_date >= (frame.mart_from at time zone 'UTC')::date
            and mart.activity_date < (frame.mart_until at time zone 'UTC')::date
    where {mart_filter}
    union all
    select {tail_columns}
    from frame
    inner join analytics.session_changes as facts
        on
            analytics.is_unseen(facts.xid, frame.watermark)
            and facts.occurred_at >= frame.mart_from
            and facts.occurred_at < frame.mart_until
    {exploded}
    where {fact_filter}
    union all
    select {source_columns}
    from frame
    inner join analytics.session_facts as facts
        on facts.occurred_at >= frame.source_from and facts.occurred_at < frame.source_until
    {exploded}
    where {fact_filter}
    union all
    select {future_columns}
    from frame
    inner join analytics.session_facts as facts
        on facts.occurred_at >= frame.as_of and facts.occurred_at < frame.day_end
    {exploded}
    where {fact_filter}
)"""

_USER_PARTS: Final = """
parts as (
    select {source_columns}
    from clock
    inner join analytics.session_facts as facts
        on
            facts.occurred_at >= greatest(clock.since, clock.horizon)
            and facts.occurred_at < clock.as_of
    {exploded}
    where facts.user_id = %(user_id)s::text and {fact_filter}
)"""

_STATS_SUMS: Final = {
    "sessions": "(facts.fact = 'metrics')::integer",
    "queries": "facts.total_queries::bigint",
    "duration_seconds": "facts.duration_seconds::bigint",
    "abandoned_sessions": "facts.abandoned::integer",
    "archived_sessions": "(facts.fact = 'archival')::integer",
}

_STATS: Final = """
select
    parts.session_type,
    sum(parts.sessions)::bigint as sessions,
    sum(parts.queries)::bigint as queries,
    sum(parts.duration_seconds)::bigint as duration_seconds,
    sum(parts.abandoned_sessions)::bigint as abandoned_sessions,
    sum(parts.archived_sessions)::bigint as archived_sessions
from parts
group by parts.session_type
"""

# Ties by bytes, whatever the database's collation.
_COUNTS: Final = """
select parts.name, sum(parts.occurrences)::bigint as occurrences
from parts
group by parts.name
having sum(parts.occurrences) <> 0
order by occurrences desc, parts.name collate "C"
"""

_TOP: Final = 10


@dataclass(frozen=True, slots=True)
class _Counted:
    """A mart of names and counts, and how a fact turns into its rows."""

    mart: str
    name: str
    count: str
    exploded: str
    occurrences: str = "1"


_ASSETS: Final = _Counted(
    mart="daily_asset_counts",
    name="symbol",
    count="occurrences",
    exploded="cross join lateral analytics.names(facts.assets) as exploded (name)",
)
_TAGS: Final = _Counted(
    mart="daily_tag_counts",
    name="tag",
    count="occurrences",
    exploded="cross join lateral analytics.names(facts.tags) as exploded (name)",
)
_QUERY_TYPES: Final = _Counted(
    mart="daily_query_type_counts",
    name="query_type",
    count="queries",
    exploded="cross join lateral analytics.counts(facts.query_types) as exploded",
    occurrences="exploded.occurrences",
)

_PLATFORM_META: Final = """
select
    frame.as_of,
    least(frame.since, frame.mart_from) as window_start,
    case when isfinite(frame.horizon) then frame.horizon end as horizon,
    frame.watermark::text as watermark,
    coalesce(sum(parts.mart_rows), 0)::bigint as mart_rows,
    coalesce(sum(parts.tail_rows), 0)::bigint as tail_rows,
    coalesce(sum(parts.source_rows), 0)::bigint as source_rows,
    coalesce(sum(parts.set_aside_values), 0)::bigint as set_aside_values
from frame
left join parts on true
group by frame.as_of, frame.since, frame.mart_from, frame.horizon, frame.watermark::text
"""

_USER_META: Final = """
select
    clock.as_of,
    greatest(clock.since, clock.horizon) as window_start,
    case when isfinite(clock.horizon) then clock.horizon end as horizon,
    null::text as watermark,
    0::bigint as mart_rows,
    0::bigint as tail_rows,
    coalesce(sum(parts.source_rows), 0)::bigint as source_rows,
    coalesce(sum(parts.set_aside_values), 0)::bigint as set_aside_values
from clock
left join parts on true
group by clock.as_of, clock.since, clock.horizon
"""

# A row per session of the window, for the CSV export; values as text, exactly as they are stored.
_SESSION_METRICS_ROWS: Final = """
select
    rows.session_id::text,
    rows.user_id::text,
    rows.session_type::text,
    to_char(rows.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') as created_at,
    rows.duration_seconds::text,
    rows.total_queries::text,
    rows.cache_hit_rate::text,
    rows.avg_query_time_ms::text,
    rows.assets_analyzed::text,
    rows.query_type_summary::text,
    rows.tags::text,
    rows.completed_normally::text,
    rows.abandoned::text
from clock
inner join analytics.session_metrics_rows as rows
    on rows.created_at >= clock.since and rows.created_at < clock.as_of
where {conditions}
order by rows.created_at, rows.session_id
"""


def _weighted(weight: str, sums: dict[str, str]) -> str:
    return ", ".join(f"{weight} * {sums[name]} as {name}" for name in sums)


def _stats(*, by_user: bool, by_type: bool) -> str:
    sums = _STATS_SUMS
    mart_filter, fact_filter = _filters(by_type)
    if by_user:
        parts = _USER_PARTS.format(
            source_columns="facts.session_type, " + _weighted("1", sums),
            exploded="",
            fact_filter=fact_filter,
        )
        return f"with {_WINDOW}, {parts} {_STATS}"
    mart = "daily_session_stats"
    parts = _PARTS.format(
        mart=mart,
        mart_columns="mart.session_type, " + ", ".join(f"mart.{name}" for name in sums),
        tail_columns="facts.session_type, " + _weighted("facts.sign", sums),
        source_columns="facts.session_type, " + _weighted("1", sums),
        future_columns="facts.session_type, " + _weighted("-1", sums),
        exploded="",
        mart_filter=mart_filter,
        fact_filter=fact_filter,
    )
    return f"with {_FRAME.format(mart=mart)}, {parts} {_STATS}"


def _counts(counted: _Counted, *, by_user: bool, by_type: bool, limit: int | None) -> str:
    mart_filter, fact_filter = _filters(by_type)
    fact_filter += " and facts.fact = 'metrics'"
    last = _COUNTS if limit is None else f"{_COUNTS} limit {limit}"
    if by_user:
        parts = _USER_PARTS.format(
            source_columns=f"exploded.name, {counted.occurrences} as occurrences",
            exploded=counted.exploded,
            fact_filter=fact_filter,
        )
        return f"with {_WINDOW}, {parts} {last}"
    parts = _PARTS.format(
        mart=counted.mart,
        mart_columns=f"mart.{counted.name} as name, mart.{counted.count} as occurrences",
        tail_columns=f"exploded.name, facts.sign * {counted.occurrences} as occurrences",
        source_columns=f"exploded.name, {counted.occurrences} as occurrences",
        future_columns=f"exploded.name, -1 * {counted.occurrences} as occurrences",
        exploded=counted.exploded,
        mart_filter=mart_filter,
        fact_filter=fact_filter,
    )
    return f"with {_FRAME.format(mart=counted.mart)}, {parts} {last}"


def _active(*, by_user: bool, by_type: bool) -> str:
    conditions = ["open_sessions.expires_at > clock.as_of"]
    if by_user:
        conditions.append("open_sessions.user_id = %(user_id)s::text")
    if by_type:
        conditions.append("open_sessions.session_type = %(session_type)s::text")
    return (
        f"with {_WINDOW} select count(*) as active_sessions "  # noqa: S608 - constants
        f"from clock inner join analytics.open_sessions on {' and '.join(conditions)}"
    )


def _meta(*, by_user: bool, by_type: bool) -> str:
    mart_filter, fact_filter = _filters(by_type)
    source = "0 as mart_rows, 0 as tail_rows, 1 as source_rows, {} * facts.set_aside_values"
    if by_user:
        parts = _USER_PARTS.format(
            source_columns=source.format("1") + " as set_aside_values",
            exploded="",
            fact_filter=fact_filter,
        )
        return f"with {_WINDOW}, {parts} {_USER_META}"
    mart = "daily_session_stats"
    parts = _PARTS.format(
        mart=mart,
        mart_columns="1 as mart_rows, 0 as tail_rows, 0 as source_rows, mart.set_aside_values",
        tail_columns=(
            "0 as mart_rows, 1 as tail_rows, 0 as source_rows, facts.sign * facts.set_aside_values"
        ),
        source_columns=source.format("1"),
        future_columns=source.format("-1"),
        exploded="",
        mart_filter=mart_filter,
        fact_filter=fact_filter,
    )
    return f"with {_FRAME.format(mart=mart)}, {parts} {_PLATFORM_META}"


def _session_metrics_rows(*, by_user: bool, by_type: bool) -> str:
    conditions = ["true"]
    if by_user:
        conditions.append("rows.user_id = %(user_id)s::text")
    if by_type:
        conditions.append("rows.session_type = %(session_type)s::text")
    return f"with {_WINDOW} " + _SESSION_METRICS_ROWS.format(conditions=" and ".join(conditions))


def _filters(by_type: bool) -> tuple[str, str]:
    if not by_type:
        return "true", "true"
    return (
        "mart.session_type = %(session_type)s::text",
        "facts.session_type = %(session_type)s::text",
    )


def _question(*, by_user: bool, by_type: bool) -> Question:
    return Question(
        stats=_stats(by_user=by_user, by_type=by_type),
        assets=_counts(_ASSETS, by_user=by_user, by_type=by_type, limit=_TOP),
        query_types=_counts(_QUERY_TYPES, by_user=by_user, by_type=by_type, limit=None),
        tags=_counts(_TAGS, by_user=by_user, by_type=by_type, limit=_TOP),
        active=_active(by_user=by_user, by_type=by_type),
        meta=_meta(by_user=by_user, by_type=by_type),
        session_metrics_rows=_session_metrics_rows(by_user=by_user, by_type=by_type),
    )


# A text for each kind of filter: "user is null or user_id = ..." loses its index in a generic plan.
_QUESTIONS: Final = {
    (by_user, by_type): _question(by_user=by_user, by_type=by_type)
    for by_user in (False, True)
    for by_type in (False, True)
}


def question_for(*, has_user: bool, has_type: bool) -> Question:
    """The statements for a filter by user, by type, by both or by neither."""
    return _QUESTIONS[has_user, has_type]
