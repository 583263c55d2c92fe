{{
    config(
        tags=["reconciliation"],
        meta={"keys": ["activity_date", "scope", "kind", "name"]},
    )
}}

-- The days of the serving layer, as the other reconciliations compare the days of a mart: what it holds plus
-- the feed rows that it has not seen must be what the source rows add up to, in every scope.
with touched as (

    select * from analytics.days_to_reconcile('session_totals', {{ var("reconcile_all_days") }})

),

-- The layer's first day holds whatever is dated before it as well, and its last day whatever is dated after
-- it: serving.start_of.
days as (

    select distinct
        case
            when touched.starts_at < '2000-01-02 00:00+00' then '-infinity'
            else least(touched.starts_at, '2200-01-01 00:00+00')
        end as starts_at,
        case
            when touched.ends_before > '2200-01-01 00:00+00' then 'infinity'
            else greatest(touched.ends_before, '2000-01-02 00:00+00')
        end as ends_before
    from touched

),

mart_state as materialized (

    select mart_states.watermark from analytics.mart_states
    where mart_states.mart = 'session_totals'

),

facts as (

    select
        false as is_source,
        changes.sign::bigint as weight,
        changes.fact,
        changes.user_key,
        changes.session_type,
        changes.total_queries,
        changes.duration_seconds,
        changes.is_abandoned,
        changes.set_aside_values,
        changes.assets,
        changes.tags,
        changes.query_types,
        changes.occurred_at
    from mart_state
    inner join {{ ref("stg_session_changes") }} as changes
        on analytics.is_unseen(changes.xid, mart_state.watermark) and changes.fact <> 'opening'
    inner join days
        on changes.occurred_at >= days.starts_at and changes.occurred_at < days.ends_before
    union all
    select
        true as is_source,
        1::bigint as weight,
        on_day.fact,
        on_day.user_key,
        on_day.session_type,
        on_day.total_queries,
        on_day.duration_seconds,
        on_day.is_abandoned,
        on_day.set_aside_values,
        on_day.assets,
        on_day.tags,
        on_day.query_types,
        on_day.occurred_at
    from days
    cross join lateral (
        select * from {{ ref("int_session_facts") }} as session_facts
        where session_facts.occurred_at >= days.starts_at and session_facts.occurred_at < days.ends_before
        -- Kept apart from the join, so that each day is looked up through the indexes on time.
        offset 0 -- noqa: AM09
    ) as on_day

),

scopes as (

    select
        scopes.scope_id,
        scopes.user_key,
        scopes.session_type,
        coalesce(scopes.session_type, scopes.user_key::text, 'platform') as scope
    from {{ source("serving", "scopes") }} as scopes

),

scoped_facts as materialized (

    select
        facts.*,
        serving.start_of(facts.occurred_at, interval '1 day') as starts_at,
        scopes.scope,
        scopes.session_type is null as is_of_all_types
    from facts
    inner join scopes
        on
            (scopes.user_key is null or facts.user_key = scopes.user_key)
            and (scopes.session_type is null or facts.session_type = scopes.session_type)
    where isfinite(facts.occurred_at)

),

held as (

    select
        totals.starts_at,
        scopes.scope,
        totals.sessions,
        totals.archived_sessions,
        totals.abandoned_sessions,
        totals.queries,
        totals.duration_seconds,
        totals.set_aside_values,
        totals.settled || totals.added as entries
    from {{ ref("session_totals") }} as totals
    inner join scopes on totals.scope_id = scopes.scope_id
    where
        totals.level = 'day'
        and exists (
            select from days
            where totals.starts_at >= days.starts_at and totals.starts_at < days.ends_before
        )

),

figures as (

    select
        scoped_facts.is_source,
        scoped_facts.starts_at,
        scoped_facts.scope,
        sum(scoped_facts.weight) filter (where scoped_facts.fact = 'metrics') as sessions,
        sum(scoped_facts.weight) filter (where scoped_facts.fact = 'archival') as archived_sessions,
        sum(scoped_facts.weight) filter (where scoped_facts.is_abandoned) as abandoned_sessions,
        sum(scoped_facts.weight * scoped_facts.total_queries) as queries,
        sum(scoped_facts.weight * scoped_facts.duration_seconds) as duration_seconds,
        sum(scoped_facts.weight * scoped_facts.set_aside_values) as set_aside_values
    from scoped_facts
    group by scoped_facts.is_source, scoped_facts.starts_at, scoped_facts.scope
    union all
    select
        false as is_source,
        held.starts_at,
        held.scope,
        held.sessions,
        held.archived_sessions,
        held.abandoned_sessions,
        held.queries,
        held.duration_seconds,
        held.set_aside_values
    from held

),

counted as (

    {% for name in [
        "sessions",
        "archived_sessions",
        "abandoned_sessions",
        "queries",
        "duration_seconds",
        "set_aside_values",
    ] %}
        select
            figures.is_source,
            figures.starts_at,
            figures.scope,
            'figure' as kind,
            '{{ name }}' as name,
            figures.{{ name }}::bigint as n
        from figures
        union all
    {% endfor %}
    select
        scoped_facts.is_source,
        scoped_facts.starts_at,
        scoped_facts.scope,
        'session_type' as kind,
        scoped_facts.session_type as name,
        scoped_facts.weight as n
    from scoped_facts
    where scoped_facts.fact = 'metrics' and scoped_facts.is_of_all_types
    union all
    select
        scoped_facts.is_source,
        scoped_facts.starts_at,
        scoped_facts.scope,
        'asset' as kind,
        asset.symbol as name,
        scoped_facts.weight as n
    from scoped_facts
    cross join lateral analytics.names(scoped_facts.assets) as asset (symbol)
    union all
    select
        scoped_facts.is_source,
        scoped_facts.starts_at,
        scoped_facts.scope,
        'tag' as kind,
        tag.tag as name,
        scoped_facts.weight as n
    from scoped_facts
    cross join lateral analytics.names(scoped_facts.tags) as tag (tag)
    union all
    select
        scoped_facts.is_source,
        scoped_facts.starts_at,
        scoped_facts.scope,
        'query_type' as kind,
        query_type.name,
        scoped_facts.weight * query_type.occurrences as n
    from scoped_facts
    cross join lateral analytics.counts(scoped_facts.query_types) as query_type
    union all
    select
        false as is_source,
        held.starts_at,
        held.scope,
        known.kind,
        known.name,
        decoded.n
    from held
    cross join lateral serving.decoded(held.entries) as decoded
    inner join {{ source("serving", "keys") }} as known on decoded.key_id = known.key_id

),

summed as (

    select
        counted.starts_at,
        counted.scope,
        counted.kind,
        counted.name,
        coalesce(sum(counted.n) filter (where counted.is_source), 0) as expected_n,
        coalesce(sum(counted.n) filter (where not counted.is_source), 0) as found_n
    from counted
    group by counted.starts_at, counted.scope, counted.kind, counted.name

),

-- Names that have no key count together.
keyed as (

    select
        (summed.starts_at at time zone 'UTC')::date as activity_date,
        summed.scope,
        case when summed.kind = 'figure' then summed.kind else coalesce(known.kind, 'overflow') end as kind,
        case when summed.kind = 'figure' then summed.name else coalesce(known.name, '') end as name,
        summed.expected_n,
        summed.found_n
    from summed
    left join {{ source("serving", "keys") }} as known
        on summed.kind = known.kind and summed.name = known.name

),

compared as (

    select
        keyed.activity_date,
        keyed.scope,
        keyed.kind,
        keyed.name,
        sum(keyed.expected_n) as expected_n,
        sum(keyed.found_n) as found_n
    from keyed
    group by keyed.activity_date, keyed.scope, keyed.kind, keyed.name

)

select
    'session_totals' as mart,
    compared.activity_date,
    compared.scope,
    compared.kind,
    compared.name,
    compared.expected_n,
    compared.found_n
from compared
where compared.expected_n <> compared.found_n
