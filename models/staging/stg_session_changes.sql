with session_changes as (

    select * from {{ source("change_feed", "session_changes") }}

),

renamed as (

    select
        session_changes.xid,
        session_changes.sign,
        session_changes.open_sessions,
        session_changes.fact,
        session_changes.user_key,
        session_changes.session_type,
        session_changes.total_queries,
        session_changes.duration_seconds,
        session_changes.assets,
        session_changes.query_types,
        session_changes.tags,
        session_changes.abandoned as is_abandoned,
        session_changes.completed_normally as is_completed,
        session_changes.occurred_at,
        session_changes.set_aside_values
    from session_changes

)

select * from renamed
