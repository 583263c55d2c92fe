"""All SQL of the reader, parameters only.

A window is read in one of three ways, each equal to the others; the first that can answer does.

Serving (`WINDOW`): one statement, whose cost depends neither on the window's length nor on the
number of sessions; fiml.sessions.windows adds up what it returns.

Marts (`MartQuestion`), one statement for each question:

    source rows of the partial first day            [since, mart_from)
    + mart rows of the whole days                   [mart_from, day_end)
    + feed rows that the mart has not seen          of the same days
    - source rows of the last day dated from `as_of` on

Source: the same statements. A mart that cannot be trusted (not built yet, or restored from another
cluster) starts at the end of the window, so that everything comes from the source: the fallback is
a value, not another path. Behind the retention horizon there are only whole days, in the marts.

A user's figures come from the user's own source rows, through (user_id, created_at), in one
statement of the same shape as `WINDOW` (`USER_WINDOW`); the heaviest users have totals in the
serving layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Final

from fiml.sessions.figures import MOST_FREQUENT

__all__ = [
    "BEGIN",
    "COMMIT",
    "MEMBERS",
    "NAMES",
    "RECORD",
    "USER_WINDOW",
    "WINDOW",
    "ActiveRow",
    "CountRow",
    "MartQuestion",
    "MetaRow",
    "StatsRow",
    "WindowPart",
    "mart_question",
    "session_metrics_rows",
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


@dataclass(frozen=True, slots=True)
class MartQuestion:
    """The statements that answer from the marts, for everybody or for one session type."""

    stats: str
    assets: str
    query_types: str
    tags: str
    active: str
    meta: str


WINDOW: Final = """
select * from analytics.read_window(
    %(user_id)s::text, %(session_type)s::text, %(days)s::integer, %(as_of)s::timestamptz,
    %(etag)s::bigint, %(include_meta)s::boolean
)
"""

# Names, and counts, in documents in which something else stands as well.
NAMES: Final = """
select name.name, count(*) as occurrences
from jsonb_array_elements(%(documents)s::jsonb) as document
cross join lateral analytics.names(document) as name (name)
group by name.name
"""
MEMBERS: Final = """
select member.name, sum(member.occurrences)::bigint as occurrences
from jsonb_array_elements(%(documents)s::jsonb) as document
cross join lateral analytics.counts(document) as member
group by member.name
"""

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
    left join analytics.mart_states
        on mart_states.mart = '{mart}' and not %(is_source_only)s::boolean
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
            and facts.fact <> 'opening'
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
    case when frame.watermark::text is null then 'source' else 'marts' end as path,
    frame.watermark::text as watermark,
    0::bigint as serving_rows,
    coalesce(sum(parts.mart_rows), 0)::bigint as mart_rows,
    coalesce(sum(parts.tail_rows), 0)::bigint as tail_rows,
    coalesce(sum(parts.source_rows), 0)::bigint as source_rows,
    coalesce(sum(parts.set_aside_values), 0)::bigint as set_aside_values
from frame
left join parts on true
group by frame.as_of, frame.since, frame.mart_from, frame.horizon, frame.watermark::text
"""

_HEAVY: Final = """heavy as (
    select
    from serving.scopes
    inner join analytics.user_keys on scopes.user_key = user_keys.user_key
    where
        user_keys.user_id = %(user_id)s::text
        and scopes.session_type is not distinct from %(session_type)s::text
),
"""

# One row, of the shape that analytics.read_window returns; where it is asked about, none for a
# heavy user, who has a scope of his own there.
_USER_WINDOW: Final = """
with clock as materialized (
    select
        clock.as_of,
        clock.horizon,
        greatest(clock.since, clock.horizon) as window_start
    from (
        select
            coalesce(%(as_of)s::timestamptz, transaction_timestamp()) as as_of,
            coalesce(%(as_of)s::timestamptz, transaction_timestamp())
                - %(days)s::integer * interval '24 hours' as since,
            settings.horizon
        from analytics.settings
    ) as clock
),
{heavy}facts as (
    select facts.*
    from clock
    inner join analytics.session_facts as facts
        on facts.occurred_at >= clock.window_start and facts.occurred_at < clock.as_of
    where
        facts.user_id = %(user_id)s::text
        and {fact_filter}
        and {is_light}
)
select
    'window' as part,
    1 as sign,
    count(*) as fact_rows,
    count(*) filter (where facts.fact = 'metrics') as sessions,
    sum(facts.total_queries::bigint)::bigint as queries,
    sum(facts.duration_seconds::bigint)::bigint as duration_seconds,
    count(*) filter (where facts.abandoned) as abandoned_sessions,
    count(*) filter (where facts.fact = 'archival') as archived_sessions,
    {set_aside_values} as set_aside_values,
    (
        select count(*)
        from clock
        inner join analytics.open_sessions as facts
            on facts.user_id = %(user_id)s::text and facts.expires_at > clock.as_of
        where {fact_filter}
    ) as open_sessions,
    '[' || string_agg(to_jsonb(facts.session_type)::text, ',') filter (where facts.fact = 'metrics')
        || ']' as session_types,
    '[' || string_agg(facts.assets::text, ',') || ']' as assets,
    '[' || string_agg(facts.query_types::text, ',') || ']' as query_types,
    '[' || string_agg(facts.tags::text, ',') || ']' as tags,
    null::bytea as entries,
    null::bigint as etag,
    null::text as incarnation,
    (select clock.as_of from clock) as as_of,
    (select clock.window_start from clock) as window_start,
    (select case when isfinite(clock.horizon) then clock.horizon end from clock) as horizon,
    null::text as watermark
from facts
having {is_light}
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


def _stats(*, by_type: bool) -> str:
    sums = _STATS_SUMS
    mart_filter, fact_filter = _filters(by_type)
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


def _counts(counted: _Counted, *, by_type: bool, limit: int | None) -> str:
    mart_filter, fact_filter = _filters(by_type)
    fact_filter += " and facts.fact = 'metrics'"
    last = _COUNTS if limit is None else f"{_COUNTS} limit {limit}"
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


def _active(*, by_type: bool) -> str:
    conditions = ["open_sessions.expires_at > clock.as_of"]
    if by_type:
        conditions.append("open_sessions.session_type = %(session_type)s::text")
    return (
        f"with {_WINDOW} select count(*) as active_sessions "  # noqa: S608 - constants
        f"from clock inner join analytics.open_sessions on {' and '.join(conditions)}"
    )


def _meta(*, by_type: bool) -> str:
    mart_filter, fact_filter = _filters(by_type)
    source = "0 as mart_rows, 0 as tail_rows, 1 as source_rows, {} * facts.set_aside_values"
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


def _filters(by_type: bool) -> tuple[str, str]:
    if not by_type:
        return "true", "true"
    return (
        "mart.session_type = %(session_type)s::text",
        "facts.session_type = %(session_type)s::text",
    )


def _mart_question(*, by_type: bool) -> MartQuestion:
    return MartQuestion(
        stats=_stats(by_type=by_type),
        assets=_counts(_ASSETS, by_type=by_type, limit=MOST_FREQUENT),
        query_types=_counts(_QUERY_TYPES, by_type=by_type, limit=None),
        tags=_counts(_TAGS, by_type=by_type, limit=MOST_FREQUENT),
        active=_active(by_type=by_type),
        meta=_meta(by_type=by_type),
    )


# A text for each kind of filter: "type is null or type = ..." loses its index in a generic plan.
_MART_QUESTIONS: Final = {by_type: _mart_question(by_type=by_type) for by_type in (False, True)}

# By whether there is a session type, whether the user may be a heavy one, and whether values that
# were set aside are counted: looking for them takes as long as everything else.
USER_WINDOW: Final = {
    (by_type, may_be_heavy, counts_set_aside): _USER_WINDOW.format(
        fact_filter=_filters(by_type)[1],
        heavy=_HEAVY if may_be_heavy else "",
        is_light="not exists (select from heavy)" if may_be_heavy else "true",
        set_aside_values="sum(facts.set_aside_values::bigint)::bigint"
        if counts_set_aside
        else "0::bigint",
    )
    for by_type, may_be_heavy, counts_set_aside in product((False, True), repeat=3)
}


def mart_question(*, has_type: bool) -> MartQuestion:
    """The statements for everybody, or for a session type."""
    return _MART_QUESTIONS[has_type]


def session_metrics_rows(*, has_user: bool, has_type: bool) -> str:
    """A row for each session of the window, filtered by user, by type, by both or by neither."""
    conditions = ["true"]
    if has_user:
        conditions.append("rows.user_id = %(user_id)s::text")
    if has_type:
        conditions.append("rows.session_type = %(session_type)s::text")
    return f"with {_WINDOW} " + _SESSION_METRICS_ROWS.format(conditions=" and ".join(conditions))
