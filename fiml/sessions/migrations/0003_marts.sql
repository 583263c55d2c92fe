-- The marts, made here and empty so that no build ever creates, drops or renames one: dbt changes them by
-- DML alone. Sums and counts only; neither an average nor a daily top 10 can be added up.

create table marts.daily_session_stats (
    activity_date date not null,
    session_type text not null,
    sessions bigint not null,
    queries bigint not null,
    duration_seconds bigint not null,
    abandoned_sessions bigint not null,
    completed_sessions bigint not null,
    archived_sessions bigint not null,
    set_aside_values bigint not null,
    primary key (activity_date, session_type)
);

create table marts.daily_asset_counts (
    activity_date date not null,
    session_type text not null,
    symbol text not null,
    occurrences bigint not null,
    primary key (activity_date, session_type, symbol)
);

create table marts.daily_tag_counts (
    activity_date date not null,
    session_type text not null,
    tag text not null,
    occurrences bigint not null,
    primary key (activity_date, session_type, tag)
);

create table marts.daily_query_type_counts (
    activity_date date not null,
    session_type text not null,
    query_type text not null,
    queries bigint not null,
    primary key (activity_date, session_type, query_type)
);

create table marts.daily_user_stats (
    activity_date date not null,
    user_key uuid not null,
    session_type text not null,
    sessions bigint not null,
    queries bigint not null,
    duration_seconds bigint not null,
    abandoned_sessions bigint not null,
    completed_sessions bigint not null,
    archived_sessions bigint not null,
    primary key (activity_date, user_key, session_type)
);
create index on marts.daily_user_stats (user_key);

-- A fold leaves keys whose sum became zero for one statement; these find them without a scan.
create index daily_session_stats_zero on marts.daily_session_stats (activity_date) where
sessions = 0 and queries = 0 and duration_seconds = 0 and abandoned_sessions = 0
and completed_sessions = 0 and archived_sessions = 0 and set_aside_values = 0;
create index daily_asset_counts_zero on marts.daily_asset_counts (activity_date) where occurrences = 0;
create index daily_tag_counts_zero on marts.daily_tag_counts (activity_date) where occurrences = 0;
create index daily_query_type_counts_zero on marts.daily_query_type_counts (activity_date) where queries = 0;
create index daily_user_stats_zero on marts.daily_user_stats (activity_date) where
sessions = 0 and queries = 0 and duration_seconds = 0 and abandoned_sessions = 0
and completed_sessions = 0 and archived_sessions = 0;

insert into analytics.watermarks (mart, system_identifier, feed_oid)
select
    mart,
    analytics.system_identifier() as system_identifier,
    'analytics.session_changes'::regclass::oid as feed_oid
from unnest(array[
    'daily_session_stats',
    'daily_asset_counts',
    'daily_tag_counts',
    'daily_query_type_counts',
    'daily_user_stats'
]) as mart;

-- Builds ----------------------------------------------------------------------------------------------------

-- After a restore into another cluster, or another database, the feed's transaction ids mean nothing: every
-- row of it is in the source already. Writers wait for the moment, so that none is lost in it.
create function analytics.adopt_feed() returns boolean
language plpgsql
as $$
begin
    if not exists (
        select from analytics.watermarks
        where
            system_identifier <> analytics.system_identifier()
            or feed_oid <> 'analytics.session_changes'::regclass::oid
    ) then
        return false;
    end if;
    perform from analytics.watermarks order by mart for update;
    lock table analytics.session_changes in share row exclusive mode;
    delete from analytics.session_changes;
    delete from analytics.build_windows;
    update analytics.watermarks
    set
        watermark = null,
        previous_watermark = null,
        system_identifier = analytics.system_identifier(),
        feed_oid = 'analytics.session_changes'::regclass::oid;
    return true;
end
$$;

-- Windows are numbered under a lock taken before their snapshot, so that numbers are ordered as snapshots
-- are: a mart that only moves to higher numbers never counts a row twice.
create function analytics.open_window(run_id text) returns bigint
language plpgsql
as $$
declare
    opened bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a window must be opened in READ COMMITTED: its snapshot has to be newer than its lock';
    end if;
    if exists (
        select from analytics.session_changes where xid = pg_current_xact_id_if_assigned()
    ) then
        raise exception 'a window cannot be opened in a transaction that wrote to the change feed';
    end if;
    lock table analytics.build_windows in share row exclusive mode;
    perform analytics.adopt_feed();
    select window_id into opened from analytics.build_windows where build_windows.run_id = open_window.run_id;
    if opened is null then
        insert into analytics.build_windows (run_id, upper_bound)
        values (open_window.run_id, pg_current_snapshot())
        returning window_id into opened;
    end if;
    return opened;
end
$$;

-- A request that outlives the process that made it: the next fold of each mart, whoever runs it, starts from
-- the source. So it can be overtaken, but never lost.
create function analytics.request_rebuild() returns void
language plpgsql
as $$
begin
    perform from analytics.watermarks order by mart for update;
    update analytics.watermarks set is_rebuild_requested = true;
end
$$;

create function analytics.assign_missing_user_keys() returns void
language plpgsql
as $$
begin
    insert into analytics.user_keys (user_id)
    select distinct session_facts.user_id
    from analytics.session_facts
    where
        session_facts.user_id is not null
        and not exists (select from analytics.user_keys where user_keys.user_id = session_facts.user_id)
    order by session_facts.user_id
    on conflict do nothing;
exception
    -- The detail of such an error is the row: dbt writes it into its artefacts, and this one names a user.
    when integrity_constraint_violation then
        raise exception using errcode = sqlstate, message = sqlerrm;
end
$$;
comment on function analytics.assign_missing_user_keys is
'As the triggers would have: for users who came while those were off.';

-- Locks the mart's watermark and says, in settings local to the transaction, what the model is to fold:
-- the feed rows between the bounds, or (no lower bound) everything up to the upper one.
create function analytics.begin_fold(mart text, run_id text) returns text
language plpgsql
as $$
declare
    state analytics.watermarks;
    build_window analytics.build_windows;
    lower_bound pg_snapshot;
    upper_bound pg_snapshot;
    outcome text := 'fold';
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a fold must run in READ COMMITTED: it reads what the lock made it wait for';
    end if;
    select * into state from analytics.watermarks where watermarks.mart = begin_fold.mart for update;
    if not found then
        raise exception 'there is no mart called %', begin_fold.mart;
    end if;
    select * into build_window from analytics.build_windows where build_windows.run_id = begin_fold.run_id;
    if not found then
        raise exception 'run % opened no window', begin_fold.run_id
            using hint = 'analytics.open_window(run_id) comes first; dbt does it in on-run-start.';
    end if;
    if build_window.window_id <= state.window_id and state.watermark is not null then
        lower_bound := state.watermark;
        upper_bound := state.watermark;
        outcome := 'nothing to fold';
    elsif state.watermark is null or state.is_rebuild_requested then
        upper_bound := build_window.upper_bound;
        outcome := 'rebuild';
        if begin_fold.mart in ('session_totals', 'daily_user_stats') then
            perform analytics.assign_missing_user_keys();
        end if;
        -- The other models subtract what their marts hold: macros/held.sql.
        if begin_fold.mart = 'session_totals' then
            perform serving.reset();
            -- What its steps hand on is taken for a hundredth of what it is, and would be sorted.
            perform set_config('enable_sort', 'off', true), set_config('enable_mergejoin', 'off', true);
        end if;
    else
        lower_bound := state.watermark;
        upper_bound := build_window.upper_bound;
    end if;
    -- Compiling a fold costs a hundred times what a small one does. Sorts and hashes of a rebuild go to disk
    -- beyond this memory, however large the source is.
    perform
        set_config('jit', 'off', true),
        -- Days are UTC days, and have 24 hours, wherever the server is.
        set_config('TimeZone', 'UTC', true),
        set_config('work_mem', '32MB', true),
        set_config('analytics.fold_mart', begin_fold.mart, true),
        set_config('analytics.fold_window', build_window.window_id::text, true),
        set_config('analytics.fold_outcome', outcome, true),
        set_config('analytics.fold_lower', coalesce(lower_bound::text, ''), true),
        set_config('analytics.fold_upper', upper_bound::text, true),
        set_config('analytics.fold_starts_at', '', true),
        set_config('analytics.fold_ends_before', '', true);
    if begin_fold.mart = 'session_totals' and outcome = 'fold' then
        perform serving.admit_heavy_users();
    end if;
    return outcome;
end
$$;

create function analytics.end_fold(mart text) returns void
language plpgsql
as $$
begin
    if current_setting('analytics.fold_mart', true) is distinct from end_fold.mart then
        raise exception 'no fold of % was begun in this transaction', end_fold.mart;
    end if;
    if current_setting('analytics.fold_outcome') <> 'nothing to fold' then
        update analytics.watermarks
        set
            previous_watermark = nullif(current_setting('analytics.fold_lower'), '')::pg_snapshot,
            watermark = current_setting('analytics.fold_upper')::pg_snapshot,
            window_id = current_setting('analytics.fold_window')::bigint,
            is_rebuild_requested = false,
            folded_at = clock_timestamp(),
            fold_duration = clock_timestamp() - transaction_timestamp()
        where watermarks.mart = end_fold.mart;
    end if;
    -- Who was admitted has their history now: the next fold, which may have nothing to add, must not add it.
    if end_fold.mart = 'session_totals' then
        update serving.scopes set is_new = false where is_new;
    end if;
    perform set_config('analytics.fold_mart', '', true);
end
$$;

-- What a model folds: as begin_fold said in this transaction, nothing outside of a fold.
create function analytics.fold_bounds()
returns table (lower_bound pg_snapshot, upper_bound pg_snapshot)
language sql stable rows 1
as $$
    select
        nullif(current_setting('analytics.fold_lower'), '')::pg_snapshot,
        current_setting('analytics.fold_upper')::pg_snapshot
    where coalesce(current_setting('analytics.fold_mart', true), '') <> ''
$$;

-- The days on which a mart is compared with the source: those of the changes that it holds and the feed still
-- has, which are all since the build before, however many folds there were; or (where that is asked for, or
-- the last fold was a rebuild) all of them from the horizon on, as one range. Not plain SQL, so that the
-- planner takes the estimate of a few rows and looks each day up.
create function analytics.days_to_reconcile(mart text, is_every_day boolean)
returns table (starts_at timestamptz, ends_before timestamptz)
language plpgsql stable rows 3
as $$
declare
    state analytics.mart_states;
begin
    select * into state from analytics.mart_states where mart_states.mart = days_to_reconcile.mart;
    if
        is_every_day
        or coalesce(current_setting('analytics.reconcile_every_day', true), '') = 'on'
        or state.previous_watermark is null
    then
        return query select analytics.horizon(), 'infinity'::timestamptz;
    else
        return query
        select
            touched.day at time zone 'UTC',
            -- The last day that there is has no next one.
            case
                when touched.day < '294276-12-31' then (touched.day + interval '1 day') at time zone 'UTC'
                else 'infinity'
            end
        from (
            select distinct date_trunc('day', session_changes.occurred_at at time zone 'UTC') as day
            from analytics.session_changes
            where
                pg_visible_in_snapshot(session_changes.xid, state.watermark)
                and session_changes.fact <> 'opening'
                and session_changes.occurred_at >= (select analytics.horizon())
                and isfinite(session_changes.occurred_at)
        ) as touched;
    end if;
end
$$;

-- Drops feed rows that every mart holds, below a grace longer than the longest read, and windows that
-- nobody asks for. A build's window stays for seven days, in case it still runs. Those of the process that
-- folds every second are used at once, and a day has 86400 of them; their runs begin with 'fold '.
create function analytics.prune_changes(grace interval default '30 minutes') returns bigint
language plpgsql
as $$
declare
    newest_window bigint;
    bound analytics.build_windows;
    pruned bigint := 0;
begin
    -- Two at once would meet at the same rows in two orders. One is enough.
    if not pg_try_advisory_xact_lock(hashtextextended('analytics.prune_changes', 0)) then
        return 0;
    end if;
    select max(build_windows.window_id) into newest_window
    from analytics.build_windows
    where build_windows.opened_at < clock_timestamp() - grace;
    select * into bound
    from analytics.build_windows
    where
        build_windows.opened_at < clock_timestamp() - grace
        and build_windows.window_id <= (
            select min(case when mart_states.watermark is null then 0 else mart_states.window_id end)
            from analytics.mart_states
        )
    order by build_windows.window_id desc
    limit 1;
    if bound.window_id is not null then
        delete from analytics.session_changes
        where xid < pg_snapshot_xmax(bound.upper_bound) and pg_visible_in_snapshot(xid, bound.upper_bound);
        get diagnostics pruned = row_count;
    end if;
    -- Last, as it keeps others from opening a window. Two stay: the bound, which is the slowest mart's, and the
    -- one that comes after it once that mart is no longer slow.
    delete from analytics.build_windows
    where
        build_windows.window_id < newest_window
        and build_windows.window_id is distinct from bound.window_id
        and (
            starts_with(build_windows.run_id, 'fold ')
            and build_windows.opened_at < clock_timestamp() - greatest(grace, interval '10 minutes')
            or build_windows.opened_at < clock_timestamp() - greatest(grace, interval '7 days')
            and build_windows.window_id < (select min(watermarks.window_id) from analytics.watermarks)
        );
    perform analytics.finish_erasures();
    return pruned;
end
$$;
