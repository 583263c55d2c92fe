"""A user's figures, from the user's own source rows, through (user_id, created_at)."""

from __future__ import annotations

from itertools import product
from typing import Final

__all__ = ["USER_PERIODS", "USER_PERIODS_OF_SUMS", "USER_WINDOW"]

_HEAVY: Final = """heavy as (
    select
    from serving.scopes
    inner join analytics.user_keys on scopes.user_key = user_keys.user_key
    where
        user_keys.user_id = %(user_id)s::text
        and scopes.session_type is not distinct from %(session_type)s::text
),
"""

# What becomes of rows, in the columns of analytics.read_window.
_SUMS: Final = """
    count(*) as fact_rows,
    count(*) filter (where facts.fact = 'metrics') as sessions,
    sum(facts.total_queries::bigint)::bigint as queries,
    sum(facts.duration_seconds::bigint)::bigint as duration_seconds,
    count(*) filter (where facts.abandoned) as abandoned_sessions,
    count(*) filter (where facts.fact = 'archival') as archived_sessions"""
_NAMES: Final = """
    '[' || string_agg(to_jsonb(facts.session_type)::text, ',') filter (where facts.fact = 'metrics')
        || ']' as session_types,
    '[' || string_agg(facts.assets::text, ',') || ']' as assets,
    '[' || string_agg(facts.query_types::text, ',') || ']' as query_types,
    '[' || string_agg(facts.tags::text, ',') || ']' as tags,
    null::bytea as entries,
    null::bigint as etag,
    null::text as incarnation"""
_NO_NAMES: Final = """
    null::text as session_types,
    null::text as assets,
    null::text as query_types,
    null::text as tags,
    null::bytea as entries,
    null::bigint as etag,
    null::text as incarnation"""

# One row, of the shape that analytics.read_window returns; where it is asked about, none for a
# heavy user, who has a scope of his own there.
_WINDOW: Final = """
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
    1 as sign,{sums},
    {set_aside_values} as set_aside_values,
    (
        select count(*)
        from clock
        inner join analytics.open_sessions as facts
            on facts.user_id = %(user_id)s::text and facts.expires_at > clock.as_of
        where {fact_filter}
    ) as open_sessions,{names},
    (select clock.as_of from clock) as as_of,
    (select clock.window_start from clock) as window_start,
    (select case when isfinite(clock.horizon) then clock.horizon end from clock) as horizon,
    null::text as watermark
from facts
having {is_light}
"""

# The same for periods, in the shape of analytics.read_periods.
_PERIODS: Final = """
with clock as materialized (
    select
        coalesce(%(as_of)s::timestamptz, transaction_timestamp()) as as_of,
        settings.horizon,
        cardinality(%(boundaries)s::timestamptz[]) - 1 as last_period,
        array(
            select greatest(boundary.since, settings.horizon)
            from unnest(%(boundaries)s::timestamptz[]) with ordinality as boundary (since, period)
            order by boundary.period
        ) as boundaries
    from analytics.settings
),
{heavy}facts as (
    select
        facts.*,
        width_bucket(facts.occurred_at, clock.boundaries) as period
    from clock
    inner join analytics.session_facts as facts
        on
            facts.occurred_at >= clock.boundaries[1]
            and facts.occurred_at < clock.boundaries[clock.last_period + 1]
    where
        facts.user_id = %(user_id)s::text
        and {fact_filter}
        and {is_light}
)
select
    1 as period,
    'window' as part,
    1 as sign,
    0::bigint as fact_rows,
    0::bigint as sessions,
    0::bigint as queries,
    0::bigint as duration_seconds,
    0::bigint as abandoned_sessions,
    0::bigint as archived_sessions,
    0::bigint as set_aside_values,
    0::bigint as open_sessions,
    null::text as session_types,
    null::text as assets,
    null::text as query_types,
    null::text as tags,
    null::bytea as entries,
    null::bigint as etag,
    null::text as incarnation,
    clock.as_of,
    clock.boundaries[1] as window_start,
    case when isfinite(clock.horizon) then clock.horizon end as horizon,
    null::text as watermark
from clock
where {is_light}
union all
select
    facts.period,
    'source' as part,
    1 as sign,{sums},
    {set_aside_values} as set_aside_values,
    0 as open_sessions,{names},
    null, null, null, null
from facts
group by facts.period
union all
select
    clock.last_period, 'active', 1, 0, 0, 0, 0, 0, 0, 0,
    (
        select count(*)
        from analytics.open_sessions as facts
        where
            facts.user_id = %(user_id)s::text
            and facts.expires_at > clock.as_of
            and {fact_filter}
    ),
    null, null, null, null, null, null, null, null, null, null, null
from clock
where clock.boundaries[clock.last_period + 1] >= clock.as_of and {is_light}
"""


def _questions(template: str, names: str = _NAMES) -> dict[tuple[bool, bool, bool], str]:
    # A text for each filter: "type is null or type = ..." loses its index in a generic plan.
    return {
        (by_type, may_be_heavy, counts_set_aside): template.format(
            fact_filter="facts.session_type = %(session_type)s::text" if by_type else "true",
            heavy=_HEAVY if may_be_heavy else "",
            is_light="not exists (select from heavy)" if may_be_heavy else "true",
            sums=_SUMS,
            names=names,
            set_aside_values="sum(facts.set_aside_values::bigint)::bigint"
            if counts_set_aside
            else "0::bigint",
        )
        for by_type, may_be_heavy, counts_set_aside in product((False, True), repeat=3)
    }


# By whether there is a session type, whether the user may be a heavy one, and whether values that
# were set aside are counted: looking for them takes as long as everything else.
USER_WINDOW: Final = _questions(_WINDOW)
USER_PERIODS: Final = _questions(_PERIODS)
# Without a name.
USER_PERIODS_OF_SUMS: Final = _questions(_PERIODS, _NO_NAMES)
