-- What the fold that is under way has to add to its mart. Two cases, one query:
--   a lower bound: the feed rows that the mart has not seen and its window has;
--   none: everything from the horizon on, as the source has it now, minus the feed rows that are too new for
--   the window. Source rows carry no transaction id, so this is what makes them end at the window's bound
--   while writers go on.
with bounds as (

    select
        fold_bounds.lower_bound,
        fold_bounds.upper_bound,
        -- Not seen at a bound: what was under way then, and what began later.
        array(
            select pg_snapshot_xip(coalesce(fold_bounds.lower_bound, fold_bounds.upper_bound))
        ) as open_xids,
        pg_snapshot_xmin(coalesce(fold_bounds.lower_bound, fold_bounds.upper_bound)) as first_xid,
        pg_snapshot_xmax(coalesce(fold_bounds.lower_bound, fold_bounds.upper_bound)) as next_xid,
        case
            when fold_bounds.lower_bound is null then '18446744073709551615'::xid8
            else pg_snapshot_xmax(fold_bounds.upper_bound)
        end as end_xid,
        analytics.horizon() as horizon
    from {{ fold_bounds() }} as fold_bounds

),

session_changes as (

    select * from {{ ref("stg_session_changes") }} as session_changes
    -- What unseen_changes asks, once more for the index on xid: a fold reads what it folds, however large the
    -- feed is and however long some transaction has been open. In ranges, which the planner always takes for
    -- narrow ones.
    where
        (
            session_changes.xid = any((select bounds.open_xids from bounds)::xid8[])
            and session_changes.xid >= (select bounds.first_xid from bounds)
            and session_changes.xid < (select bounds.next_xid from bounds)
        )
        or (
            session_changes.xid >= (select bounds.next_xid from bounds)
            and session_changes.xid < (select bounds.end_xid from bounds)
        )

),

session_facts as (

    select * from {{ ref("int_session_facts") }}

),

unseen_changes as (

    select
        session_changes.fact,
        session_changes.user_key,
        session_changes.session_type,
        session_changes.total_queries,
        session_changes.duration_seconds,
        session_changes.assets,
        session_changes.query_types,
        session_changes.tags,
        session_changes.is_abandoned,
        session_changes.is_completed,
        session_changes.occurred_at,
        session_changes.set_aside_values,
        case when bounds.lower_bound is null then -session_changes.sign else session_changes.sign end as sign
    from bounds
    inner join session_changes
        on
            analytics.is_unseen(session_changes.xid, coalesce(bounds.lower_bound, bounds.upper_bound))
            and session_changes.fact <> 'opening'
            and (
                pg_visible_in_snapshot(session_changes.xid, bounds.upper_bound)
                or (bounds.lower_bound is null and bounds.horizon <= session_changes.occurred_at)
            )

),

source_facts as (

    select
        session_facts.fact,
        session_facts.user_key,
        session_facts.session_type,
        session_facts.total_queries,
        session_facts.duration_seconds,
        session_facts.assets,
        session_facts.query_types,
        session_facts.tags,
        session_facts.is_abandoned,
        session_facts.is_completed,
        session_facts.occurred_at,
        session_facts.set_aside_values,
        1::smallint as sign
    from session_facts
    -- Not a join: where there is a lower bound, this part is not run at all.
    where
        (select bounds.lower_bound is null from bounds)
        and session_facts.occurred_at >= (select bounds.horizon from bounds)

),

changes as (

    select * from unseen_changes
    union all
    select * from source_facts

)

select
    changes.fact,
    changes.user_key,
    changes.session_type,
    changes.total_queries,
    changes.duration_seconds,
    changes.assets,
    changes.query_types,
    changes.tags,
    changes.is_abandoned,
    changes.is_completed,
    changes.set_aside_values,
    changes.sign,
    changes.occurred_at,
    (changes.occurred_at at time zone 'UTC')::date as activity_date
from changes
where isfinite(changes.occurred_at)
