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
        session_changes.sign * query_count.occurrences::integer as queries
    from session_changes
    cross join lateral analytics.counts(session_changes.query_types) as query_count

),

summed as (

    select
        exploded.activity_date,
        exploded.session_type,
        exploded.query_type,
        analytics.total(exploded.queries) as queries
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.query_type

),

held as (

    select
        held.activity_date,
        held.session_type,
        held.query_type,
        -held.queries as queries
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
        differences.query_type,
        analytics.total(differences.queries) as queries
    from differences
    group by differences.activity_date, differences.session_type, differences.query_type

)

select
    changed.activity_date,
    changed.session_type,
    changed.query_type,
    changed.queries
from changed
where changed.queries <> 0
-- In the order of the key, which is faster to insert; by bytes, which is faster to sort.
order by changed.activity_date, changed.session_type collate "C", changed.query_type collate "C"
