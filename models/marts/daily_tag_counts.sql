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
        sum(exploded.occurrences) as occurrences
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.tag

),

held as (

    select
        held.activity_date,
        held.session_type,
        held.tag,
        -held.occurrences as occurrences
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
        differences.tag,
        analytics.total(differences.occurrences) as occurrences
    from differences
    group by differences.activity_date, differences.session_type, differences.tag

)

select
    changed.activity_date,
    changed.session_type,
    changed.tag,
    changed.occurrences
from changed
where changed.occurrences <> 0
-- In the order of the key, which is faster to insert; by bytes, which is faster to sort.
order by changed.activity_date, changed.session_type collate "C", changed.tag collate "C"
