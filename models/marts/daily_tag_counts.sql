{{ config(unique_key=["activity_date", "session_type", "tag"]) }}

with session_changes as (

    select * from {{ ref("int_session_changes") }}
    where fact = 'metrics'

),

exploded as (

    select
        session_changes.activity_date,
        session_changes.session_type,
        recorded.tag,
        session_changes.sign as occurrences
    from session_changes
    cross join lateral analytics.names(session_changes.tags) as recorded (tag)

),

summed as (

    select
        exploded.activity_date,
        exploded.session_type,
        exploded.tag,
        sum(exploded.occurrences)::bigint as occurrences
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.tag

)

select
    summed.activity_date,
    summed.session_type,
    summed.tag,
    summed.occurrences
from summed
where summed.occurrences <> 0
