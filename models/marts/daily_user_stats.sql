{{ config(unique_key=["activity_date", "user_key", "session_type"]) }}

with session_changes as (

    select * from {{ ref("int_session_changes") }}

),

summed as (

    select
        session_changes.activity_date,
        session_changes.user_key,
        session_changes.session_type,
        sum(session_changes.sign) filter (where session_changes.fact = 'metrics') as sessions,
        sum(session_changes.sign * session_changes.total_queries::bigint) as queries,
        sum(session_changes.sign * session_changes.duration_seconds::bigint) as duration_seconds,
        sum(session_changes.sign) filter (where session_changes.is_abandoned) as abandoned_sessions,
        sum(session_changes.sign) filter (where session_changes.is_completed) as completed_sessions,
        sum(session_changes.sign) filter (where session_changes.fact = 'archival') as archived_sessions
    from session_changes
    group by session_changes.activity_date, session_changes.user_key, session_changes.session_type

)

select
    summed.activity_date,
    summed.user_key,
    summed.session_type,
    coalesce(summed.sessions, 0)::bigint as sessions,
    summed.queries::bigint as queries,
    summed.duration_seconds::bigint as duration_seconds,
    coalesce(summed.abandoned_sessions, 0)::bigint as abandoned_sessions,
    coalesce(summed.completed_sessions, 0)::bigint as completed_sessions,
    coalesce(summed.archived_sessions, 0)::bigint as archived_sessions
from summed
