{{ config(materialized="view") }}

with session_metrics as (

    select * from {{ ref("stg_session_metrics") }}

),

user_keys as (

    select * from {{ source("change_feed", "user_keys") }}

),

final as (

    select
        session_metrics.session_id,
        coalesce(
            user_keys.user_key,
            -- Not by the function that says it: what a view calls runs with the rights of whoever reads it.
            (
                select anonymous.user_key
                from user_keys as anonymous
                where anonymous.user_id is null
            )
        ) as user_key,
        session_metrics.session_type,
        session_metrics.total_queries,
        session_metrics.duration_seconds,
        session_metrics.cache_hit_rate::numeric(7, 6) as cache_hit_rate,
        session_metrics.avg_query_ms::numeric(24, 3) as avg_query_ms,
        (select count(*) from analytics.names(session_metrics.assets)) as asset_occurrences,
        (select count(*) from analytics.names(session_metrics.tags)) as tag_occurrences,
        session_metrics.set_aside_values,
        session_metrics.is_abandoned,
        session_metrics.is_completed,
        (session_metrics.created_at at time zone 'UTC')::date as activity_date,
        session_metrics.created_at,
        session_metrics.recorded_at
    from session_metrics
    left join user_keys on session_metrics.user_id = user_keys.user_id

)

select
    final.session_id,
    final.user_key,
    final.session_type,
    final.total_queries,
    final.duration_seconds,
    final.cache_hit_rate,
    final.avg_query_ms,
    final.asset_occurrences,
    final.tag_occurrences,
    final.set_aside_values,
    final.is_abandoned,
    final.is_completed,
    final.activity_date,
    final.created_at,
    final.recorded_at
from final
