{{ config(unique_key=["activity_date", "session_type", "symbol"]) }}

with session_changes as (

    select * from {{ ref("int_session_changes") }}
    where fact = 'metrics'

),

exploded as (

    select
        session_changes.activity_date,
        session_changes.session_type,
        asset.symbol,
        session_changes.sign as occurrences
    from session_changes
    cross join lateral analytics.names(session_changes.assets) as asset (symbol)

),

summed as (

    select
        exploded.activity_date,
        exploded.session_type,
        exploded.symbol,
        sum(exploded.occurrences) as occurrences
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.symbol

),

held as (

    select
        held.activity_date,
        held.session_type,
        held.symbol,
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
        differences.symbol,
        analytics.total(differences.occurrences) as occurrences
    from differences
    group by differences.activity_date, differences.session_type, differences.symbol

)

select
    changed.activity_date,
    changed.session_type,
    changed.symbol,
    changed.occurrences
from changed
where changed.occurrences <> 0
-- In the order of the key, which is faster to insert; by bytes, which is faster to sort.
order by changed.activity_date, changed.session_type collate "C", changed.symbol collate "C"
