"""What the rows of the serving layer say, and whether its levels say the same."""

from __future__ import annotations

from typing import Any

__all__ = ["CONTRADICTIONS", "DECODED_TOTALS", "heavy_users", "of_scopes"]

SUMS = (
    "sessions",
    "queries",
    "duration_seconds",
    "abandoned_sessions",
    "archived_sessions",
    "set_aside_values",
    "open_sessions",
)
# What each row of the serving layer says: how often it counts what, sums and names alike.
CONTENT = f"""
with content as materialized (
    select
        totals.scope_id,
        coalesce(user_keys.user_id, scopes.session_type, '') as scope,
        scopes.user_key is not null as is_user,
        totals.level,
        totals.starts_at,
        counted.what,
        sum(counted.n)::bigint as n
    from serving.session_totals as totals
    inner join serving.scopes on totals.scope_id = scopes.scope_id
    left join analytics.user_keys on scopes.user_key = user_keys.user_key
    cross join lateral (
        values {", ".join(f"('{name}', totals.{name})" for name in SUMS)}
        union all
        select keys.kind || ' ' || keys.name, decoded.n
        from serving.decoded(totals.settled || totals.added) as decoded
        inner join serving.keys on decoded.key_id = keys.key_id
    ) as counted (what, n)
    group by 1, 2, 3, 4, 5, 6
    having sum(counted.n) <> 0
),
layout as (
    select
        layout.*,
        make_interval(days => layout.running_days) as running_width,
        analytics.horizon() as horizon
    from serving.layout
)
"""
# A running row stays where something was dated once, though nothing is any more; and behind the
# horizon, where windows begin at midnight, a rebuild leaves days alone.
DECODED_TOTALS = f"""{CONTENT},
days as materialized (
    select distinct content.scope_id, content.starts_at from content where content.level = 'day'
)
select
    content.is_user, content.scope, content.level, content.starts_at::text, content.what, content.n
from content
cross join layout
where
    content.level in ('day', 'open')
    or (content.level in ('bucket', 'hour') and content.starts_at >= layout.horizon)
    or (content.level = 'running' and content.starts_at = 'infinity')
    or (content.level = 'running' and exists (
        select from days
        where
            days.scope_id = content.scope_id
            and days.starts_at >= content.starts_at
            and days.starts_at < content.starts_at + layout.running_width
    ))
"""
# An hour is the sum of its buckets, a day of its hours, and what is running up to a row the sum of
# the days before it; and nothing is counted less than never.
CONTRADICTIONS = f"""{CONTENT},
running as (
    select totals.scope_id, totals.starts_at
    from serving.session_totals as totals
    where totals.level = 'running'
)
select 'below zero' as wrong, scope_id, starts_at, what, n from content where n < 0
union all
select 'hour', scope_id, serving.start_of(starts_at, hour_width), what,
    sum(case level when 'hour' then n else -n end)
from content
cross join layout
where level in ('bucket', 'hour') and not is_user and starts_at >= horizon
group by 2, 3, 4
having sum(case level when 'hour' then n else -n end) <> 0
union all
select 'day', scope_id, serving.start_of(starts_at, '1 day'), what,
    sum(case level when 'day' then n else -n end)
from content
cross join layout
where level in ('hour', 'day') and starts_at >= horizon
group by 2, 3, 4
having sum(case level when 'day' then n else -n end) <> 0
union all
select 'running', running.scope_id, running.starts_at, content.what,
    sum(case content.level when 'running' then n else -n end)
from running
inner join content
    on
        running.scope_id = content.scope_id
        and (
            (content.level = 'running' and content.starts_at = running.starts_at)
            or (content.level = 'day' and content.starts_at < running.starts_at)
        )
group by 2, 3, 4
having sum(case content.level when 'running' then n else -n end) <> 0
"""


def heavy_users(totals: list[tuple[Any, ...]]) -> set[str]:
    return {row[1] for row in totals if row[0]}


def of_scopes(totals: list[tuple[Any, ...]], users: set[str]) -> list[tuple[Any, ...]]:
    return [row for row in totals if not row[0] or row[1] in users]
