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

-- Each change for the scopes of its type and of its user, where those are any: by the bucket, and for a user
-- by the hour, because his hours hold so few rows that there are no buckets of them.
changes as materialized (

    select
        type_scopes.scope_id as type_scope_id,
        user_scopes.scope_id as user_scope_id,
        serving.start_of(session_changes.occurred_at, layout.bucket_width) as bucket_starts_at,
        serving.start_of(session_changes.occurred_at, layout.hour_width) as hour_starts_at,
        session_changes.fact,
        session_changes.session_type,
        session_changes.sign,
        session_changes.total_queries,
        session_changes.duration_seconds,
        session_changes.is_abandoned,
        session_changes.set_aside_values,
        session_changes.assets,
        session_changes.tags,
        session_changes.query_types
    from {{ ref("int_session_changes") }} as session_changes
    cross join layout
    left join {{ source("serving", "scopes") }} as type_scopes
        on session_changes.session_type = type_scopes.session_type and type_scopes.user_key is null
    left join {{ source("serving", "scopes") }} as user_scopes
        on session_changes.user_key = user_scopes.user_key and not user_scopes.is_new
    where
        (select fold_range.starts_at from analytics.fold_range() as fold_range) <= session_changes.occurred_at
        and (select fold_range.ends_before from analytics.fold_range() as fold_range)
        > session_changes.occurred_at
    union all
    -- For their user alone: everybody else has them.
    select
        null::integer as type_scope_id,
        history.scope_id as user_scope_id,
        null::timestamptz as bucket_starts_at,
        serving.start_of(history.occurred_at, layout.hour_width) as hour_starts_at,
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

-- What is no figure is a name, of one of four kinds.
named as (

    select
        changes.type_scope_id,
        changes.user_scope_id,
        changes.bucket_starts_at,
        changes.hour_starts_at,
        'asset' as kind,
        asset.symbol as name,
        changes.sign::bigint as n
    from changes
    cross join lateral analytics.names(changes.assets) as asset (symbol)
    where changes.fact = 'metrics'
    union all
    select
        changes.type_scope_id,
        changes.user_scope_id,
        changes.bucket_starts_at,
        changes.hour_starts_at,
        'tag' as kind,
        tag.tag as name,
        changes.sign::bigint as n
    from changes
    cross join lateral analytics.names(changes.tags) as tag (tag)
    where changes.fact = 'metrics'
    union all
    select
        changes.type_scope_id,
        changes.user_scope_id,
        changes.bucket_starts_at,
        changes.hour_starts_at,
        'query_type' as kind,
        query_type.name,
        changes.sign * query_type.occurrences as n
    from changes
    cross join lateral analytics.counts(changes.query_types) as query_type
    where changes.fact = 'metrics'
    union all
    -- Not in the scope of a type, where all are of one.
    select
        null::integer as type_scope_id,
        changes.user_scope_id,
        changes.bucket_starts_at,
        changes.hour_starts_at,
        'session_type' as kind,
        changes.session_type as name,
        changes.sign::bigint as n
    from changes
    where changes.fact = 'metrics'

),

-- A name that has no key is given one.
keyed as materialized (

    select
        named.type_scope_id,
        named.user_scope_id,
        named.bucket_starts_at,
        named.hour_starts_at,
        coalesce(known.key_id, serving.key_id(named.kind, named.name)) as key_id,
        named.n
    from named
    left join {{ source("serving", "keys") }} as known
        on named.kind = known.kind and named.name = known.name

),

-- For the types and, in the same pass, for the platform.
bucket_counts as materialized (

    select
        case
            when grouping(keyed.type_scope_id) = 0 then keyed.type_scope_id else platform.scope_id
        end as scope_id,
        keyed.bucket_starts_at as starts_at,
        keyed.key_id,
        analytics.total(keyed.n) as n
    from keyed
    cross join platform
    where keyed.bucket_starts_at is not null
    group by
        grouping sets (
            (keyed.type_scope_id, keyed.bucket_starts_at, keyed.key_id),
            (platform.scope_id, keyed.bucket_starts_at, keyed.key_id)
        )
    having
        (grouping(keyed.type_scope_id) = 1 or keyed.type_scope_id is not null)
        and analytics.total(keyed.n) <> 0

),

bucket_sums as materialized (

    select
        case
            when grouping(changes.type_scope_id) = 0 then changes.type_scope_id else platform.scope_id
        end as scope_id,
        changes.bucket_starts_at as starts_at,
        {{ sums_of_changes() }}
    from changes
    cross join platform
    where changes.bucket_starts_at is not null
    group by
        grouping sets (
            (changes.type_scope_id, changes.bucket_starts_at),
            (platform.scope_id, changes.bucket_starts_at)
        )
    having grouping(changes.type_scope_id) = 1 or changes.type_scope_id is not null

),

-- Hours from buckets, days from hours, spans from days; the users join at the hours.
hour_counts as materialized (

    select
        bucket_counts.scope_id,
        serving.start_of(bucket_counts.starts_at, layout.hour_width) as starts_at,
        bucket_counts.key_id,
        analytics.total(bucket_counts.n) as n
    from bucket_counts
    cross join layout
    group by
        bucket_counts.scope_id,
        serving.start_of(bucket_counts.starts_at, layout.hour_width),
        bucket_counts.key_id
    union all
    select
        keyed.user_scope_id as scope_id,
        keyed.hour_starts_at as starts_at,
        keyed.key_id,
        analytics.total(keyed.n) as n
    from keyed
    where keyed.user_scope_id is not null
    group by keyed.user_scope_id, keyed.hour_starts_at, keyed.key_id

),

hour_sums as materialized (

    select
        bucket_sums.scope_id,
        serving.start_of(bucket_sums.starts_at, layout.hour_width) as starts_at,
        {{ sums("bucket_sums") }}
    from bucket_sums
    cross join layout
    group by bucket_sums.scope_id, serving.start_of(bucket_sums.starts_at, layout.hour_width)
    union all
    select
        changes.user_scope_id as scope_id,
        changes.hour_starts_at as starts_at,
        {{ sums_of_changes() }}
    from changes
    where changes.user_scope_id is not null
    group by changes.user_scope_id, changes.hour_starts_at

),

day_counts as materialized (

    select
        hour_counts.scope_id,
        serving.start_of(hour_counts.starts_at, interval '1 day') as starts_at,
        hour_counts.key_id,
        analytics.total(hour_counts.n) as n
    from hour_counts
    group by
        hour_counts.scope_id, serving.start_of(hour_counts.starts_at, interval '1 day'), hour_counts.key_id

),

day_sums as materialized (

    select
        hour_sums.scope_id,
        serving.start_of(hour_sums.starts_at, interval '1 day') as starts_at,
        {{ sums("hour_sums") }}
    from hour_sums
    group by hour_sums.scope_id, serving.start_of(hour_sums.starts_at, interval '1 day')

),

span_counts as materialized (

    select
        day_counts.scope_id,
        serving.start_of(day_counts.starts_at, layout.running_width) as starts_at,
        day_counts.key_id,
        analytics.total(day_counts.n) as n
    from day_counts
    cross join layout
    group by
        day_counts.scope_id, serving.start_of(day_counts.starts_at, layout.running_width), day_counts.key_id

),

span_sums as materialized (

    select
        day_sums.scope_id,
        serving.start_of(day_sums.starts_at, layout.running_width) as starts_at,
        {{ sums("day_sums") }}
    from day_sums
    cross join layout
    group by day_sums.scope_id, serving.start_of(day_sums.starts_at, layout.running_width)

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
        analytics.total(span_counts.n) as n
    from running
    inner join span_counts
        on running.scope_id = span_counts.scope_id and running.starts_at > span_counts.starts_at
    group by running.scope_id, running.starts_at, span_counts.key_id

),

vectors as (

    {% for level in levels %}
        select
            '{{ level }}' as level,
            counts.scope_id,
            counts.starts_at,
            {{ vector("counts") }} as entries
        from {{ level }}_counts as counts
        where counts.n <> 0
        group by counts.scope_id, counts.starts_at
        {% if not loop.last %}
            union all
        {% endif %}
    {% endfor %}

),

open_sums as (

    select
        scopes.scope_id,
        analytics.total(openings.open_sessions) as open_sessions
    from {{ ref("int_session_openings") }} as openings
    inner join {{ source("serving", "scopes") }} as scopes
        on
            scopes.user_key is null
            and (scopes.session_type is null or openings.session_type = scopes.session_type)
    group by scopes.scope_id
    having analytics.total(openings.open_sessions) <> 0

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
    coalesce(vectors.entries, '{}') || coalesce(taken_over.entries, '{}') as settled,
    '{}'::bigint[] as added
from level_sums
left join vectors
    on
        level_sums.scope_id = vectors.scope_id
        and level_sums.level = vectors.level
        and level_sums.starts_at = vectors.starts_at
left join taken_over
    on
        level_sums.level = 'running'
        and level_sums.scope_id = taken_over.scope_id
        and level_sums.starts_at = taken_over.starts_at
