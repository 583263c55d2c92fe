with sessions as (

    -- Column by column: a build may read these and no others.
    select
        sessions.id,
        sessions.user_id,
        sessions.type,
        sessions.is_archived,
        sessions.created_at,
        sessions.expires_at,
        sessions.archived_at
    from {{ source("application", "sessions") }} as sessions

),

cleaned as (

    select
        sessions.id as session_id,
        sessions.user_id::text as user_id,
        sessions.type::text as session_type,
        sessions.is_archived,
        sessions.created_at,
        sessions.expires_at,
        sessions.archived_at
    from sessions

)

select * from cleaned
