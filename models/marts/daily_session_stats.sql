{{ config(unique_key=["activity_date", "session_type"]) }}

with session_changes as (

    select * from {{ ref("int_session_changes") }}

),

summed as (

    select
        session_changes.activity_date,
        session_changes.session_type,
        sum(session_changes.sign) filter (where session_changes.fact = 'metrics') as sessions,
        sum(session_changes.sign * session_changes.total_queries) as queries,
        sum(session_changes.sign * session_changes.duration_seconds) as duration_seconds,
        sum(session_changes.sign) filter (where session_changes.is_abandoned) as abandoned_sessions,
        sum(session_changes.sign) filter (where session_changes.is_completed) as completed_sessions,
        sum(session_changes.sign) filter (where session_changes.fact = 'archival') as archived_sessions,
        sum(session_changes.sign * session_changes.set_aside_values) as set_aside_values
    from session_changes
    group by session_changes.activity_date, session_changes.session_type

),

held as (

    select
        held.activity_date,
        held.session_type,
        -held.sessions as sessions,
        -held.queries as queries,
        -held.duration_seconds as duration_seconds,
        -held.abandoned_sessions as abandoned_sessions,
        -held.completed_sessions as completed_sessions,
        -held.archived_sessions as archived_sessions,
        -held.set_aside_values as set_aside_values
    from {{ this }} as held
    where {{ is_rebuilt("held.activity_date") }}

),

differences as (

    select * from summed
    union all
    select * from held

),

changed as (

    select
        differences.activity_date,
        differences.session_type,
        coalesce(analytics.total(differences.sessions), 0) as sessions,
        analytics.total(differences.queries) as queries,
        analytics.total(differences.duration_seconds) as duration_seconds,
        coalesce(analytics.total(differences.abandoned_sessions), 0) as abandoned_sessions,
        coalesce(analytics.total(differences.completed_sessions), 0) as completed_sessions,
        coalesce(analytics.total(differences.archived_sessions), 0) as archived_sessions,
        analytics.total(differences.set_aside_values) as set_aside_values
    from differences
    group by differences.activity_date, differences.session_type

)

select
    changed.activity_date,
    changed.session_type,
    changed.sessions,
    changed.queries,
    changed.duration_seconds,
    changed.abandoned_sessions,
    changed.completed_sessions,
    changed.archived_sessions,
    changed.set_aside_values
from changed
where
    changed.sessions <> 0
    or changed.queries <> 0
    or changed.duration_seconds <> 0
    or changed.abandoned_sessions <> 0
    or changed.completed_sessions <> 0
    or changed.archived_sessions <> 0
    or changed.set_aside_values <> 0
-- In the order of the key, which is faster to insert; by bytes, which is faster to sort.
order by changed.activity_date, changed.session_type collate "C"
