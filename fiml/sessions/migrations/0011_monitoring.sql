-- What a monitoring system asks: how far everything is, and how long it takes. Figures alone, of everybody.

-- A build is dbt's, wherever it was started: what it took is known to nobody else once it has ended.
create table analytics.last_build (
    is_only_row boolean primary key default true check (is_only_row),
    started_at timestamptz not null,
    finished_at timestamptz not null,
    is_successful boolean not null
);
comment on table analytics.last_build is
'One row once a build has ended: the last one that did, from the window it opened to its end.';

create function analytics.end_build(run_id text, is_successful boolean) returns void
language sql
as $$
    insert into analytics.last_build (started_at, finished_at, is_successful)
    select build_windows.opened_at, clock_timestamp(), end_build.is_successful
    from analytics.build_windows
    where build_windows.run_id = end_build.run_id
    on conflict (is_only_row) do update set
        started_at = excluded.started_at,
        finished_at = excluded.finished_at,
        is_successful = excluded.is_successful
$$;
comment on function analytics.end_build is 'Notes what a build took, if it had opened a window.';

-- Everything in one statement and one snapshot. One row per figure, and mart or fact:
--
--   unfolded_rows       changes of the feed that the mart has not folded; counted up to `counted_at_most`
--   window_age          seconds since the snapshot that the mart holds was taken: what it has not folded was
--                       committed later
--   fold_age            seconds since the mart was last folded
--   fold_seconds        how long that took
--   usable              1 where the mart was built for this database, else 0
--   quarantined         rows that were set aside, by what they are; counted as far as those
--   active, expired     sessions that are not archived, and whose time is not up, or is
--   archived            sessions that were ever archived and not erased
--   build_seconds, build_age, build_successful
--                       of the last build that has ended
--
-- With its owner's rights, because none of those who ask may look into the quarantine. A figure that is not
-- known has no row: sessions, where the serving layer does not hold all but a few changes.
create function analytics.monitored(counted_at_most integer)
returns table (figure text, label text, value double precision)
language plpgsql stable security definer set search_path from current
-- As in analytics.read_window: through indexes, with a plan that is made once.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now_at timestamptz := statement_timestamp();
    layer pg_snapshot;
    unfolded bigint;
begin
    return query
    with states as materialized (
        select
            mart_states.mart,
            mart_states.watermark,
            mart_states.folded_at,
            watermarks.fold_duration,
            coalesce(build_windows.opened_at, mart_states.folded_at - watermarks.fold_duration) as opened_at
        from analytics.mart_states
        inner join analytics.watermarks on mart_states.mart = watermarks.mart
        left join analytics.build_windows on mart_states.window_id = build_windows.window_id
    ),
    -- Nearly always the same one for all.
    counts as materialized (
        select
            held.watermark,
            (
                select count(*)
                from (
                    select
                    from analytics.session_changes
                    where analytics.is_unseen(session_changes.xid, held.watermark::pg_snapshot)
                    order by session_changes.xid
                    limit monitored.counted_at_most
                ) as unseen
            ) as unseen_rows
        from (
            select distinct states.watermark::text as watermark
            from states
            where states.watermark is not null
        ) as held
    )
    select figures.figure, states.mart, figures.value::double precision
    from states
    left join counts on states.watermark::text = counts.watermark
    cross join lateral (
        values
        ('unfolded_rows', counts.unseen_rows),
        ('window_age', extract(epoch from now_at - states.opened_at)),
        ('fold_age', extract(epoch from now_at - states.folded_at)),
        ('fold_seconds', extract(epoch from states.fold_duration)),
        ('usable', (states.watermark is not null)::integer)
    ) as figures (figure, value)
    where figures.value is not null and (states.watermark is not null or figures.figure = 'usable')
    union all
    select 'quarantined', facts.fact, (
        select count(*)
        from (
            select from analytics.quarantine where quarantine.fact = facts.fact limit monitored.counted_at_most
        ) as counted
    )
    from unnest(array['archival', 'late archival', 'metrics']) as facts (fact)
    union all
    select figures.figure, '', figures.value::double precision
    from analytics.last_build
    cross join lateral (
        values
        ('build_seconds', extract(epoch from last_build.finished_at - last_build.started_at)),
        ('build_age', extract(epoch from now_at - last_build.finished_at)),
        ('build_successful', last_build.is_successful::integer)
    ) as figures (figure, value);

    select mart_states.watermark into layer
    from analytics.mart_states where mart_states.mart = 'session_totals';
    if layer is null then
        return;
    end if;
    select count(*) into unfolded
    from (
        select from analytics.session_changes
        where analytics.is_unseen(session_changes.xid, layer)
        order by session_changes.xid
        limit monitored.counted_at_most
    ) as unseen;
    if unfolded >= monitored.counted_at_most then
        return;
    end if;
    return query
    with folded as materialized (
        select
            sum(total.archived_sessions) as archived_sessions,
            sum(total.open_sessions) as open_sessions
        from serving.session_totals as total
        inner join serving.scopes on total.scope_id = scopes.scope_id
        where
            scopes.user_key is null
            and scopes.session_type is null
            and total.level in ('running', 'open')
            and total.starts_at = 'infinity'
    ),
    unseen as materialized (
        select
            coalesce(
                sum(changes.sign) filter (where changes.fact = 'archival' and changes.occurred_at < 'infinity'), 0
            ) as archived_sessions,
            coalesce(sum(changes.sign * changes.open_sessions), 0) as open_sessions
        from analytics.session_changes as changes
        where analytics.is_unseen(changes.xid, layer)
    ),
    ended as materialized (
        select count(*) as sessions from analytics.open_sessions as ended where ended.expires_at <= now_at
    ),
    endless as materialized (
        select count(*) as sessions from analytics.open_sessions as endless where endless.expires_at is null
    )
    select figures.figure, '', figures.value::double precision
    from folded
    cross join unseen
    cross join ended
    cross join endless
    cross join lateral (
        values
        ('archived', coalesce(folded.archived_sessions, 0) + unseen.archived_sessions),
        (
            'active',
            coalesce(folded.open_sessions, 0) + unseen.open_sessions - ended.sessions - endless.sessions
        ),
        ('expired', ended.sessions)
    ) as figures (figure, value);
end
$$;
comment on function analytics.monitored is
'How far everything is, and how long it takes: figures of everybody.';

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    listed.kind,
    listed.object_name,
    given.privilege
from (
    values
    ('builder', 'table', array['select', 'insert', 'update'], 'analytics.last_build'),
    ('builder', 'function', array['execute'], 'analytics.end_build(text,boolean)'),
    ('builder', 'function', array['execute'], 'analytics.monitored(integer)'),
    ('reader', 'function', array['execute'], 'analytics.monitored(integer)')
) as listed (purpose, kind, privileges, object_name)
cross join lateral unnest(listed.privileges) as given (privilege);

select analytics.close_to_public();
