with session_metrics as (

    -- Column by column: a build may read these and no others.
    select
        session_metrics.session_id,
        session_metrics.user_id,
        session_metrics.session_type,
        session_metrics.total_queries,
        session_metrics.duration_seconds,
        session_metrics.cache_hit_rate,
        session_metrics.cache_hit_rate_fraction,
        session_metrics.avg_query_time_ms,
        session_metrics.avg_query_ms,
        session_metrics.assets_analyzed,
        session_metrics.query_type_summary,
        session_metrics.tags,
        session_metrics.abandoned,
        session_metrics.completed_normally,
        session_metrics.created_at,
        session_metrics.recorded_at
    from {{ source("application", "session_metrics") }} as session_metrics

),

cleaned as (

    select
        session_metrics.session_id,
        session_metrics.user_id::text as user_id,
        session_metrics.session_type::text as session_type,
        greatest(session_metrics.total_queries, 0) as total_queries,
        greatest(session_metrics.duration_seconds, 0) as duration_seconds,
        session_metrics.cache_hit_rate_fraction as cache_hit_rate,
        session_metrics.avg_query_ms,
        session_metrics.assets_analyzed as assets,
        session_metrics.query_type_summary as query_types,
        session_metrics.tags,
        session_metrics.abandoned as is_abandoned,
        session_metrics.completed_normally and not session_metrics.abandoned as is_completed,
        session_metrics.created_at,
        session_metrics.recorded_at,
        analytics.set_aside_values(
            session_metrics.total_queries,
            session_metrics.duration_seconds,
            session_metrics.cache_hit_rate,
            session_metrics.cache_hit_rate_fraction,
            session_metrics.avg_query_time_ms,
            session_metrics.avg_query_ms,
            session_metrics.assets_analyzed,
            session_metrics.query_type_summary,
            session_metrics.tags,
            session_metrics.abandoned,
            session_metrics.completed_normally
        ) as set_aside_values
    from session_metrics

)

select * from cleaned
