"""Questions to the marts, and the fallback to the source, which is a value and not another path.

    source rows of the partial first day            [since, mart_from)
    + mart rows of the whole days                   [mart_from, mart_until)
    + feed rows that the mart has not seen          of the same days
    - source rows of the last day that come after   [until, mart_until)

A mart that cannot be trusted (not built yet, or restored from another cluster) has no days in
front of the horizon, so that everything comes from the source. Behind the horizon there are only
whole days, in the marts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from fiml.sessions.figures import MOST_FREQUENT
from fiml.sessions.questions import NameKind

__all__ = ["MartQuestion", "mart_name_question", "mart_question"]


@dataclass(frozen=True, slots=True)
class MartQuestion:
    """The statements that answer from the marts, for everybody or for one session type."""

    stats: str
    assets: str
    query_types: str
    tags: str
    active: str
    meta: str


# `as_of` is a parameter so that a test can stand at any microsecond; callers leave it null, and the
# statement's own transaction supplies it.
_CLOCK: Final = """
clock as materialized (
    select
        coalesce(%(as_of)s::timestamptz, transaction_timestamp()) as as_of,
        analytics.horizon() as horizon
)"""
_WINDOW: Final = """
spans as (
    select
        1 as period,
        clock.as_of - %(days)s::integer * interval '24 hours' as since,
        clock.as_of as until
    from clock
)"""
_PERIODS: Final = """
spans as (
    select
        boundary.period::integer as period,
        boundary.since,
        lead(boundary.since) over (order by boundary.period) as until
    from unnest(%(boundaries)s::timestamptz[]) with ordinality as boundary (since, period)
)"""

_FRAME: Final = """
days as (
    select
        moved.period,
        moved.since,
        moved.until,
        moved.as_of,
        moved.horizon,
        mart_states.watermark,
        -- The first midnight that is not before the period begins, or ends.
        date_trunc('day', moved.since + interval '24 hours' - interval '1 microsecond', 'UTC')
            as first_midnight,
        date_trunc('day', moved.until + interval '24 hours' - interval '1 microsecond', 'UTC')
            as last_midnight
    from (
        select
            spans.period,
            clock.as_of,
            clock.horizon,
            case
                when spans.since < clock.horizon then date_trunc('day', spans.since, 'UTC')
                else spans.since
            end as since,
            case
                when spans.until < clock.horizon then date_trunc('day', spans.until, 'UTC')
                else spans.until
            end as until
        from spans
        cross join clock
        where spans.until is not null
    ) as moved
    -- A mart that nobody knows of is one that cannot be trusted.
    left join analytics.mart_states
        on mart_states.mart = '{mart}' and not %(is_source_only)s::boolean
),
frame as materialized (
    select
        days.period,
        days.as_of,
        days.since,
        days.horizon,
        days.watermark,
        greatest(days.since, days.horizon) as source_from,
        case
            when days.watermark is null then days.until
            else least(greatest(days.first_midnight, days.horizon), days.until)
        end as source_until,
        case
            when days.watermark is null then days.since
            else days.first_midnight
        end as mart_from,
        case
            when days.watermark is null then least(days.horizon, days.until)
            else days.last_midnight
        end as mart_until,
        -- What a whole day holds beyond the end.
        case
            when days.watermark is not null and days.first_midnight < days.last_midnight
                then days.until
        end as beyond_from,
        days.last_midnight as beyond_until
    from days
)"""

# What each part of the answer reads. {select_*} take a mart row, or a fact times its weight.
_PARTS: Final = """
parts as (
    select frame.period, {mart_columns}
    from frame
    inner join marts.{mart} as mart
        on
            mart.activity_date >= (frame.mart_from at time zone 'UTC')::date
            and mart.activity_date < (frame.mart_until at time zone 'UTC')::date
    where {mart_filter}
    union all
    select frame.period, {tail_columns}
    from frame
    inner join analytics.session_changes as facts
        on
            analytics.is_unseen(facts.xid, frame.watermark)
            and facts.fact <> 'opening'
            and facts.occurred_at >= frame.mart_from
            and facts.occurred_at < frame.mart_until
    {exploded}
    where {fact_filter}
    union all
    select frame.period, {source_columns}
    from frame
    inner join analytics.session_facts as facts
        on facts.occurred_at >= frame.source_from and facts.occurred_at < frame.source_until
    {exploded}
    where {fact_filter}
    union all
    select frame.period, {beyond_columns}
    from frame
    inner join analytics.session_facts as facts
        on facts.occurred_at >= frame.beyond_from and facts.occurred_at < frame.beyond_until
    {exploded}
    where {fact_filter}
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
    parts.period,
    parts.session_type,
    sum(parts.sessions)::bigint as sessions,
    sum(parts.queries)::bigint as queries,
    sum(parts.duration_seconds)::bigint as duration_seconds,
    sum(parts.abandoned_sessions)::bigint as abandoned_sessions,
    sum(parts.archived_sessions)::bigint as archived_sessions
from parts
group by parts.period, parts.session_type
"""

# Ties by bytes, whatever the database's collation.
_COUNTS: Final = """
select counted.period, counted.name, counted.occurrences
from (
    select
        parts.period,
        parts.name,
        sum(parts.occurrences)::bigint as occurrences,
        row_number() over (
            partition by parts.period
            order by sum(parts.occurrences) desc, parts.name collate "C"
        ) as place
    from parts
    group by parts.period, parts.name
    having sum(parts.occurrences) <> 0
) as counted
where {is_told}
order by counted.period, counted.place
"""


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

# As the meta has it, for who did not ask for that.
_PATH: Final = """
case
    when exists (
        select from analytics.mart_states
        where
            mart_states.mart = 'daily_session_stats'
            and mart_states.watermark is not null
            and not %(is_source_only)s::boolean
    ) then 'marts'
    else 'source'
end
"""

_META: Final = """
select
    frame.as_of,
    frame.since as window_start,
    case when isfinite(frame.horizon) then frame.horizon end as horizon,
    case when frame.watermark::text is null then 'source' else 'marts' end as path,
    frame.watermark::text as watermark,
    0::bigint as serving_rows,
    coalesce(sum(parts.mart_rows), 0)::bigint as mart_rows,
    coalesce(sum(parts.tail_rows), 0)::bigint as tail_rows,
    coalesce(sum(parts.source_rows), 0)::bigint as source_rows,
    coalesce(sum(parts.set_aside_values), 0)::bigint as set_aside_values
from frame
left join parts on frame.period = parts.period
group by frame.period, frame.as_of, frame.since, frame.horizon, frame.watermark::text
order by frame.period
"""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Whether one session type is asked about, and whether periods are or a window of days."""

    by_type: bool
    of_periods: bool

    @property
    def begin(self) -> str:
        return f"with {_CLOCK}, {_PERIODS if self.of_periods else _WINDOW}, {_FRAME}"

    # A text for each: "type is null or type = ..." loses its index in a generic plan.

    @property
    def mart_filter(self) -> str:
        return "mart.session_type = %(session_type)s::text" if self.by_type else "true"

    @property
    def fact_filter(self) -> str:
        return "facts.session_type = %(session_type)s::text" if self.by_type else "true"


def _weighted(weight: str, sums: dict[str, str]) -> str:
    return ", ".join(f"{weight} * {sums[name]} as {name}" for name in sums)


def _stats(kind: _Kind) -> str:
    sums = _STATS_SUMS
    mart = "daily_session_stats"
    parts = _PARTS.format(
        mart=mart,
        mart_columns="mart.session_type, " + ", ".join(f"mart.{name}" for name in sums),
        tail_columns="facts.session_type, " + _weighted("facts.sign", sums),
        source_columns="facts.session_type, " + _weighted("1", sums),
        beyond_columns="facts.session_type, " + _weighted("-1", sums),
        exploded="",
        mart_filter=kind.mart_filter,
        fact_filter=kind.fact_filter,
    )
    return f"{kind.begin.format(mart=mart)}, {parts} {_STATS}"


def _counts(
    counted: _Counted, kind: _Kind, *, limit: int | None = None, is_of_one: bool = False
) -> str:
    """Of the first names, or of all; or of one, which is a parameter."""
    mart_name, fact_name = (
        (f" and mart.{counted.name} = %(name)s::text", " and exploded.name = %(name)s::text")
        if is_of_one
        else ("", "")
    )
    parts = _PARTS.format(
        mart=counted.mart,
        mart_columns=f"mart.{counted.name} as name, mart.{counted.count} as occurrences",
        tail_columns=f"exploded.name, facts.sign * {counted.occurrences} as occurrences",
        source_columns=f"exploded.name, {counted.occurrences} as occurrences",
        beyond_columns=f"exploded.name, -1 * {counted.occurrences} as occurrences",
        exploded=counted.exploded,
        mart_filter=kind.mart_filter + mart_name,
        fact_filter=kind.fact_filter + " and facts.fact = 'metrics'" + fact_name,
    )
    last = _COUNTS.format(is_told="true" if limit is None else f"counted.place <= {limit}")
    return f"{kind.begin.format(mart=counted.mart)}, {parts} {last}"


def _active(kind: _Kind) -> str:
    conditions = ["open_sessions.expires_at > clock.as_of"]
    if kind.by_type:
        conditions.append("open_sessions.session_type = %(session_type)s::text")
    return (
        f"with {_CLOCK} select count(*) as active_sessions, {_PATH} as path "  # noqa: S608 - constants
        f"from clock inner join analytics.open_sessions on {' and '.join(conditions)}"
    )


def _meta(kind: _Kind) -> str:
    source = "0 as mart_rows, 0 as tail_rows, 1 as source_rows, {} * facts.set_aside_values"
    mart = "daily_session_stats"
    parts = _PARTS.format(
        mart=mart,
        mart_columns="1 as mart_rows, 0 as tail_rows, 0 as source_rows, mart.set_aside_values",
        tail_columns=(
            "0 as mart_rows, 1 as tail_rows, 0 as source_rows, facts.sign * facts.set_aside_values"
        ),
        source_columns=source.format("1"),
        beyond_columns=source.format("-1"),
        exploded="",
        mart_filter=kind.mart_filter,
        fact_filter=kind.fact_filter,
    )
    return f"{kind.begin.format(mart=mart)}, {parts} {_META}"


def _mart_question(kind: _Kind) -> MartQuestion:
    return MartQuestion(
        stats=_stats(kind),
        assets=_counts(_ASSETS, kind, limit=MOST_FREQUENT),
        query_types=_counts(_QUERY_TYPES, kind),
        tags=_counts(_TAGS, kind, limit=MOST_FREQUENT),
        active=_active(kind),
        meta=_meta(kind),
    )


_MART_QUESTIONS: Final = {
    kind: _mart_question(_Kind(*kind)) for kind in product((False, True), repeat=2)
}

_NAME_QUESTIONS: Final = {
    (name_kind, by_type): _counts(counted, _Kind(by_type, of_periods=True), is_of_one=True)
    for name_kind, counted in (
        (NameKind.ASSET, _ASSETS),
        (NameKind.TAG, _TAGS),
        (NameKind.QUERY_TYPE, _QUERY_TYPES),
    )
    for by_type in (False, True)
}


def mart_name_question(kind: NameKind, *, has_type: bool) -> str:
    """How often one name counts, in each period in which it does."""
    return _NAME_QUESTIONS[kind, has_type]


def mart_question(*, has_type: bool, of_periods: bool = False) -> MartQuestion:
    """The statements for everybody, or for a session type; about a window of days, or periods."""
    return _MART_QUESTIONS[has_type, of_periods]
