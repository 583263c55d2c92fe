{{
    config(
        unique_key=["scope_id", "level", "starts_at"],
        on_conflict={
            "stamp": "excluded.stamp",
            "settled": "case when "
                ~ "serving.is_merge_due(folded.settled, folded.added, excluded.settled) "
                ~ "then serving.merged(folded.settled || folded.added || excluded.settled) "
                ~ "else folded.settled end",
            "added": "case when "
                ~ "serving.is_merge_due(folded.settled, folded.added, excluded.settled) "
                ~ "then '{}' else folded.added || excluded.settled end",
        },
    )
}}

{%- set levels = ["bucket", "hour", "day", "running"] %}

with layout as not materialized (

    select
        layout.bucket_width,
        layout.hour_width,
        make_interval(days => layout.running_days) as running_width
    from {{ source("serving", "layout") }} as layout

),

platform as not materialized (

    select scopes.scope_id
    from {{ source("serving", "scopes") }} as scopes
    where scopes.user_key is null and scopes.session_type is null

),

changes as materialized (

    select session_changes.*
    from {{ ref("int_session_changes") }} as session_changes
    where
        (select fold_range.starts_at from analytics.fold_range() as fold_range) <= session_changes.occurred_at
        and (select fold_range.ends_before from analytics.fold_range() as fold_range)
        > session_changes.occurred_at

),

-- Each change for its session type, a scope or not, and again for its user, if he is one: by the hour,
-- because a user's hours hold so few rows that there are no buckets of them.
scoped_changes as (

    select
        scopes.scope_id,
        false as is_user,
        serving.start_of(changes.occurred_at, layout.bucket_width) as starts_at,
        changes.fact,
        changes.session_type,
        changes.sign,
        changes.total_queries,
        changes.duration_seconds,
        changes.is_abandoned,
        changes.set_aside_values,
        changes.assets,
        changes.tags,
        changes.query_types
    from changes
    cross join layout
    left join {{ source("serving", "scopes") }} as scopes
        on changes.session_type = scopes.session_type and scopes.user_key is null
    union all
    select
        scopes.scope_id,
        true as is_user,
        serving.start_of(changes.occurred_at, layout.hour_width) as starts_at,
        changes.fact,
        changes.session_type,
        changes.sign,
        changes.total_queries,
        changes.duration_seconds,
        changes.is_abandoned,
        changes.set_aside_values,
        changes.assets,
        changes.tags,
        changes.query_types
    from changes
    cross join layout
    inner join {{ source("serving", "scopes") }} as scopes
        on changes.user_key = scopes.user_key and not scopes.is_new
    union all
    select
        history.scope_id,
        true as is_user,
        serving.start_of(history.occurred_at, layout.hour_width) as starts_at,
        history.fact,
        history.session_type,
        history.sign,
        history.total_queries,
        history.duration_seconds,
        history.is_abandoned,
        history.set_aside_values,
        history.assets,
        history.tags,
        history.query_types
    from {{ ref("int_heavy_user_changes") }} as history
    cross join layout

),

-- Figures are sums; what is left of the changes are names of four kinds, which become entries of a vector.
figures as materialized (

    select
        scoped_changes.scope_id,
        scoped_changes.is_user,
        scoped_changes.starts_at,
        scoped_changes.session_type,
        coalesce(sum(scoped_changes.sign) filter (where scoped_changes.fact = 'metrics'), 0) as sessions,
        sum(scoped_changes.sign * scoped_changes.total_queries::bigint)::bigint as queries,
        sum(scoped_changes.sign * scoped_changes.duration_seconds::bigint)::bigint as duration_seconds,
        coalesce(sum(scoped_changes.sign) filter (where scoped_changes.is_abandoned), 0)
            as abandoned_sessions,
        coalesce(sum(scoped_changes.sign) filter (where scoped_changes.fact = 'archival'), 0)
            as archived_sessions,
        sum(scoped_changes.sign * scoped_changes.set_aside_values::bigint)::bigint as set_aside_values
    from scoped_changes
    group by
        scoped_changes.scope_id, scoped_changes.is_user, scoped_changes.starts_at,
        scoped_changes.session_type

),

named as (

    select
        figures.scope_id,
        figures.is_user,
        figures.starts_at,
        'session_type' as kind,
        figures.session_type as name,
        figures.sessions as n
    from figures
    where figures.sessions <> 0
    union all
    select
        scoped_changes.scope_id,
        scoped_changes.is_user,
        scoped_changes.starts_at,
        'asset' as kind,
        asset.symbol as name,
        scoped_changes.sign::bigint as n
    from scoped_changes
    cross join lateral analytics.names(scoped_changes.assets) as asset (symbol)
    where scoped_changes.fact = 'metrics'
    union all
    select
        scoped_changes.scope_id,
        scoped_changes.is_user,
        scoped_changes.starts_at,
        'tag' as kind,
        tag.tag as name,
        scoped_changes.sign::bigint as n
    from scoped_changes
    cross join lateral analytics.names(scoped_changes.tags) as tag (tag)
    where scoped_changes.fact = 'metrics'
    union all
    select
        scoped_changes.scope_id,
        scoped_changes.is_user,
        scoped_changes.starts_at,
        'query_type' as kind,
        query_type.name,
        scoped_changes.sign * query_type.occurrences as n
    from scoped_changes
    cross join lateral analytics.counts(scoped_changes.query_types) as query_type
    where scoped_changes.fact = 'metrics'

),

-- A name without a key carries itself along, until it gets one.
looked_up as (

    select
        named.scope_id,
        named.is_user,
        named.starts_at,
        named.kind = 'session_type' as is_session_type,
        known.key_id,
        case when known.key_id is null then named.kind end as new_kind,
        case when known.key_id is null then named.name end as new_name,
        named.n
    from named
    left join {{ source("serving", "keys") }} as known
        on named.kind = known.kind and named.name = known.name

),

summed as (

    select
        looked_up.scope_id,
        looked_up.is_user,
        looked_up.starts_at,
        looked_up.is_session_type,
        looked_up.key_id,
        looked_up.new_kind,
        looked_up.new_name,
        sum(looked_up.n)::bigint as n
    from looked_up
    group by
        looked_up.scope_id, looked_up.is_user, looked_up.starts_at, looked_up.is_session_type,
        looked_up.key_id, looked_up.new_kind, looked_up.new_name
    having sum(looked_up.n) <> 0

),

keyed as materialized (

    select
        summed.scope_id,
        summed.is_user,
        summed.starts_at,
        summed.is_session_type,
        coalesce(summed.key_id, serving.key_id(summed.new_kind, summed.new_name)) as key_id,
        summed.n
    from summed

),

-- For each session type that is a scope, where all sessions are of one type, and for the platform.
bucket_counts as materialized (

    select
        keyed.scope_id,
        keyed.starts_at,
        keyed.key_id,
        keyed.n
    from keyed
    where keyed.scope_id is not null and not keyed.is_user and not keyed.is_session_type
    union all
    select
        platform.scope_id,
        keyed.starts_at,
        keyed.key_id,
        sum(keyed.n)::bigint as n
    from keyed
    cross join platform
    where not keyed.is_user
    group by platform.scope_id, keyed.starts_at, keyed.key_id

),

bucket_sums as materialized (

    select
        figures.scope_id,
        figures.starts_at,
        {{ sums("figures") }}
    from figures
    where figures.scope_id is not null and not figures.is_user
    group by figures.scope_id, figures.starts_at
    union all
    select
        platform.scope_id,
        figures.starts_at,
        {{ sums("figures") }}
    from figures
    cross join platform
    where not figures.is_user
    group by platform.scope_id, figures.starts_at

),

-- Hours from buckets, days from hours, spans from days; the users join at the hours.
bucket_hours as (

    select
        bucket_counts.scope_id,
        serving.start_of(bucket_counts.starts_at, layout.hour_width) as starts_at,
        bucket_counts.key_id,
        bucket_counts.n
    from bucket_counts
    cross join layout

),

hour_counts as materialized (

    select
        bucket_hours.scope_id,
        bucket_hours.starts_at,
        bucket_hours.key_id,
        sum(bucket_hours.n)::bigint as n
    from bucket_hours
    group by bucket_hours.scope_id, bucket_hours.starts_at, bucket_hours.key_id
    union all
    select
        keyed.scope_id,
        keyed.starts_at,
        keyed.key_id,
        keyed.n
    from keyed
    where keyed.is_user

),

bucket_sums_by_hour as (

    select
        bucket_sums.scope_id,
        serving.start_of(bucket_sums.starts_at, layout.hour_width) as starts_at,
        {{ figures("bucket_sums") }}
    from bucket_sums
    cross join layout

),

hour_sums as materialized (

    select
        bucket_sums_by_hour.scope_id,
        bucket_sums_by_hour.starts_at,
        {{ sums("bucket_sums_by_hour") }}
    from bucket_sums_by_hour
    group by bucket_sums_by_hour.scope_id, bucket_sums_by_hour.starts_at
    union all
    select
        figures.scope_id,
        figures.starts_at,
        {{ sums("figures") }}
    from figures
    where figures.is_user
    group by figures.scope_id, figures.starts_at

),

hour_days as (

    select
        hour_counts.scope_id,
        serving.start_of(hour_counts.starts_at, interval '1 day') as starts_at,
        hour_counts.key_id,
        hour_counts.n
    from hour_counts

),

day_counts as materialized (

    select
        hour_days.scope_id,
        hour_days.starts_at,
        hour_days.key_id,
        sum(hour_days.n)::bigint as n
    from hour_days
    group by hour_days.scope_id, hour_days.starts_at, hour_days.key_id

),

hour_sums_by_day as (

    select
        hour_sums.scope_id,
        serving.start_of(hour_sums.starts_at, interval '1 day') as starts_at,
        {{ figures("hour_sums") }}
    from hour_sums

),

day_sums as materialized (

    select
        hour_sums_by_day.scope_id,
        hour_sums_by_day.starts_at,
        {{ sums("hour_sums_by_day") }}
    from hour_sums_by_day
    group by hour_sums_by_day.scope_id, hour_sums_by_day.starts_at

),

day_spans as (

    select
        day_counts.scope_id,
        serving.start_of(day_counts.starts_at, layout.running_width) as starts_at,
        day_counts.key_id,
        day_counts.n
    from day_counts
    cross join layout

),

span_counts as materialized (

    select
        day_spans.scope_id,
        day_spans.starts_at,
        day_spans.key_id,
        sum(day_spans.n)::bigint as n
    from day_spans
    group by day_spans.scope_id, day_spans.starts_at, day_spans.key_id

),

day_sums_by_span as (

    select
        day_sums.scope_id,
        serving.start_of(day_sums.starts_at, layout.running_width) as starts_at,
        {{ figures("day_sums") }}
    from day_sums
    cross join layout

),

span_sums as materialized (

    select
        day_sums_by_span.scope_id,
        day_sums_by_span.starts_at,
        {{ sums("day_sums_by_span") }}
    from day_sums_by_span
    group by day_sums_by_span.scope_id, day_sums_by_span.starts_at

),

-- The running rows that are needed: one where each span with changes begins, and one for everything.
needed_running as (

    select
        span_sums.scope_id,
        span_sums.starts_at
    from span_sums
    union all
    select
        scopes.scope_id,
        'infinity' as starts_at
    from {{ source("serving", "scopes") }} as scopes

),

new_running as materialized (

    select
        needed_running.scope_id,
        needed_running.starts_at
    from needed_running
    where not exists (
        select from {{ this }} as totals
        where
            totals.scope_id = needed_running.scope_id
            and totals.level = 'running'
            and totals.starts_at = needed_running.starts_at
    )

),

running as materialized (

    select
        new_running.scope_id,
        new_running.starts_at
    from new_running
    union all
    select
        totals.scope_id,
        totals.starts_at
    from {{ source("serving", "scopes") }} as scopes
    inner join {{ this }} as totals
        on
            scopes.scope_id = totals.scope_id
            and totals.level = 'running'
            and totals.starts_at > (select min(span_sums.starts_at) from span_sums)

),

-- Nothing is dated between a new span's start and the next row's: it takes over what that one holds.
taken_over as materialized (

    select
        new_running.scope_id,
        new_running.starts_at,
        {{ figures("next_running") }},
        next_running.settled || next_running.added as entries
    from new_running
    cross join lateral (
        select totals.* from {{ this }} as totals
        where
            totals.scope_id = new_running.scope_id
            and totals.level = 'running'
            and totals.starts_at > new_running.starts_at
        order by totals.starts_at
        limit 1
    ) as next_running

),

running_figures as (

    select
        running.scope_id,
        running.starts_at,
        {{ figures("span_sums") }}
    from running
    inner join span_sums
        on running.scope_id = span_sums.scope_id and running.starts_at > span_sums.starts_at
    union all
    select
        taken_over.scope_id,
        taken_over.starts_at,
        {{ figures("taken_over") }}
    from taken_over
    union all
    -- There, even where nothing is running yet.
    select
        new_running.scope_id,
        new_running.starts_at,
        {{ zeros() }}
    from new_running

),

running_sums as (

    select
        running_figures.scope_id,
        running_figures.starts_at,
        {{ sums("running_figures") }}
    from running_figures
    group by running_figures.scope_id, running_figures.starts_at

),

running_counts as (

    select
        running.scope_id,
        running.starts_at,
        span_counts.key_id,
        sum(span_counts.n)::bigint as n
    from running
    inner join span_counts
        on running.scope_id = span_counts.scope_id and running.starts_at > span_counts.starts_at
    group by running.scope_id, running.starts_at, span_counts.key_id

),

-- Counts as the entries of a vector (fiml/sessions/migrations/0006_serving.sql says how one is written): one
-- each, and a second one for the part of a count that does not fit. Zeros, that is what came and went, are
-- none.
{% for level in levels %}
    {{ level }}_entries as (

        select
            counts.scope_id,
            counts.starts_at,
            serving.entry(counts.key_id, counts.n - ((counts.n + 137438953472) >> 38 << 38)) as entry
        from {{ level }}_counts as counts
        where counts.n <> 0
        union all
        select
            counts.scope_id,
            counts.starts_at,
            serving.entry(-counts.key_id, (counts.n + 137438953472) >> 38) as entry
        from {{ level }}_counts as counts
        where counts.n not between -137438953472 and 137438953471
        {% if level == "running" %}
            union all
            select
                taken_over.scope_id,
                taken_over.starts_at,
                taken_entry.entry
            from taken_over
            cross join lateral unnest(taken_over.entries) as taken_entry (entry)
        {% endif %}

    ),

{% endfor %}

vectors as (

    {% for level in levels %}
        select
            '{{ level }}' as level,
            {{ level }}_entries.scope_id,
            {{ level }}_entries.starts_at,
            array_agg({{ level }}_entries.entry) as entries
        from {{ level }}_entries
        group by {{ level }}_entries.scope_id, {{ level }}_entries.starts_at
        {% if not loop.last %}
            union all
        {% endif %}
    {% endfor %}

),

open_sums as (

    select
        scopes.scope_id,
        sum(openings.open_sessions)::bigint as open_sessions
    from {{ ref("int_session_openings") }} as openings
    inner join {{ source("serving", "scopes") }} as scopes
        on
            scopes.user_key is null
            and (scopes.session_type is null or openings.session_type = scopes.session_type)
    group by scopes.scope_id
    having sum(openings.open_sessions) <> 0

),

level_sums as (

    {% for level in levels %}
        select
            '{{ level }}' as level,
            {{ level }}_sums.scope_id,
            {{ level }}_sums.starts_at,
            {{ figures(level ~ "_sums") }},
            0::bigint as open_sessions
        from {{ level }}_sums
        union all
    {% endfor %}
    select
        'open' as level,
        open_sums.scope_id,
        'infinity' as starts_at,
        {{ zeros() }},
        open_sums.open_sessions
    from open_sums

)

select
    level_sums.scope_id,
    level_sums.level,
    level_sums.starts_at,
    serving.new_stamp() as stamp,
    {{ figures("level_sums") }},
    level_sums.open_sessions,
    coalesce(vectors.entries, '{}') as settled,
    '{}'::bigint[] as added
from level_sums
left join vectors
    on
        level_sums.scope_id = vectors.scope_id
        and level_sums.level = vectors.level
        and level_sums.starts_at = vectors.starts_at
