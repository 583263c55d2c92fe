-- All that counts for the users whom the fold under way admits as scopes of their own: their history in the
-- source now, minus the changes that are too new for the window.
with bounds as (

    select
        fold_bounds.upper_bound,
        analytics.horizon() as horizon
    from {{ fold_bounds() }} as fold_bounds

),

admitted as (

    select
        scopes.scope_id,
        scopes.user_key,
        user_keys.user_id
    from {{ source("serving", "scopes") }} as scopes
    inner join {{ source("change_feed", "user_keys") }} as user_keys on scopes.user_key = user_keys.user_key
    where scopes.is_new

),

history as (

    select
        admitted.scope_id,
        facts.*
    from bounds
    cross join admitted
    cross join lateral (
        select session_facts.*
        from {{ source("change_feed", "session_facts") }} as session_facts
        where
            session_facts.user_id = admitted.user_id
            and session_facts.occurred_at >= bounds.horizon
            and isfinite(session_facts.occurred_at)
        -- Kept apart from the join, so that a user is looked up by index.
        offset 0 -- noqa: AM09
    ) as facts

),

too_new as (

    select
        admitted.scope_id,
        changes.*
    from bounds
    cross join admitted
    cross join lateral (
        select session_changes.*
        from {{ source("change_feed", "session_changes") }} as session_changes
        where
            analytics.is_unseen(session_changes.xid, bounds.upper_bound)
            and session_changes.user_key = admitted.user_key
            and session_changes.fact <> 'opening'
            and session_changes.occurred_at >= bounds.horizon
            and isfinite(session_changes.occurred_at)
        -- Kept apart from the join, so that a user is looked up by index.
        offset 0 -- noqa: AM09
    ) as changes

)

select
    history.scope_id,
    history.fact,
    history.session_type,
    1::smallint as sign,
    history.total_queries,
    history.duration_seconds,
    history.abandoned as is_abandoned,
    history.set_aside_values,
    history.assets,
    history.tags,
    history.query_types,
    history.occurred_at
from history
union all
select
    too_new.scope_id,
    too_new.fact,
    too_new.session_type,
    -too_new.sign as sign,
    too_new.total_queries,
    too_new.duration_seconds,
    too_new.abandoned as is_abandoned,
    too_new.set_aside_values,
    too_new.assets,
    too_new.tags,
    too_new.query_types,
    too_new.occurred_at
from too_new
