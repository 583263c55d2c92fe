{{ config(unique_key=["activity_date", "session_type", "query_type"]) }}

with session_changes as (

    select * from {{ ref("int_session_changes") }}
    where fact = 'metrics'

),

exploded as (

    select
        session_changes.activity_date,
        session_changes.session_type,
        query_count.name as query_type,
        session_changes.sign * query_count.occurrences as queries
    from session_changes
    cross join lateral analytics.counts(session_changes.query_types) as query_count

),

summed as (

    select
        exploded.activity_date,
        exploded.session_type,
        exploded.query_type,
        sum(exploded.queries)::bigint as queries
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.query_type

)

select
    summed.activity_date,
    summed.session_type,
    summed.query_type,
    summed.queries
from summed
where summed.queries <> 0
