-- By how many the sessions that are open become more or fewer with the fold under way: the changes between
-- its bounds, or (no lower bound) what is open in the source now, minus the changes that are too new for the
-- window. From the sources: what two models of one statement read through a third is read as a whole.
with bounds as (

    select
        fold_bounds.lower_bound,
        fold_bounds.upper_bound
    from {{ fold_bounds() }} as fold_bounds
    -- They have no time: a fold in several ranges takes them with the first.
    where (select fold_range.starts_at from analytics.fold_range() as fold_range) = '-infinity'

),

changes as (

    select
        bounds.lower_bound,
        feed.*
    from bounds
    cross join lateral (
        select session_changes.*
        from {{ source("change_feed", "session_changes") }} as session_changes
        where
            session_changes.open_sessions <> 0
            and analytics.is_unseen(session_changes.xid, coalesce(bounds.lower_bound, bounds.upper_bound))
            and (
                bounds.lower_bound is null
                or pg_visible_in_snapshot(session_changes.xid, bounds.upper_bound)
            )
        -- Kept apart from the join, so that the feed is read through its index.
        offset 0 -- noqa: AM09
    ) as feed

)

select
    changes.session_type,
    changes.user_key,
    changes.sign * changes.open_sessions
    * case when changes.lower_bound is null then -1 else 1 end as open_sessions
from changes
union all
select
    sessions.type::text as session_type,
    null::uuid as user_key,
    count(*) as open_sessions
from bounds
inner join {{ source("application", "sessions") }} as sessions on not sessions.is_archived
where bounds.lower_bound is null
group by sessions.type
