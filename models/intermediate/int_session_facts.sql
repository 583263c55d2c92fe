-- What the source holds, in the shape of the feed. An open session's archival is dated null, never: with a
-- WHERE in one branch the planner could not search the union by time.
with session_metrics as (

    select * from {{ ref("stg_session_metrics") }}

),

sessions as (

    select * from {{ ref("stg_sessions") }}

),

user_keys as (

    select * from {{ source("change_feed", "user_keys") }}

),

facts as (

    select
        'metrics' as fact,
        session_metrics.user_id,
        session_metrics.session_type,
        session_metrics.total_queries,
        session_metrics.duration_seconds,
        session_metrics.assets,
        session_metrics.query_types,
        session_metrics.tags,
        session_metrics.is_abandoned,
        session_metrics.is_completed,
        session_metrics.created_at as occurred_at,
        session_metrics.set_aside_values
    from session_metrics
    union all
    select
        'archival' as fact,
        sessions.user_id,
        sessions.session_type,
        0 as total_queries,
        0 as duration_seconds,
        null::jsonb as assets,
        null::jsonb as query_types,
        null::jsonb as tags,
        false as is_abandoned,
        false as is_completed,
        case when sessions.is_archived then sessions.archived_at end as occurred_at,
        0 as set_aside_values
    from sessions

),

keyed as (

    select
        facts.fact,
        coalesce(user_keys.user_key, (select analytics.anonymous_key())) as user_key,
        facts.session_type,
        facts.total_queries,
        facts.duration_seconds,
        facts.assets,
        facts.query_types,
        facts.tags,
        facts.is_abandoned,
        facts.is_completed,
        facts.occurred_at,
        facts.set_aside_values
    from facts
    left join user_keys on facts.user_id = user_keys.user_id

)

select * from keyed
