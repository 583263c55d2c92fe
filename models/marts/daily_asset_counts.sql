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
        sum(exploded.occurrences)::bigint as occurrences
    from exploded
    group by exploded.activity_date, exploded.session_type, exploded.symbol

)

select
    summed.activity_date,
    summed.session_type,
    summed.symbol,
    summed.occurrences
from summed
where summed.occurrences <> 0
