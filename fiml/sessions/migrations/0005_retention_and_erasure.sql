-- Two different deletes. Erasure takes a person out of the figures; retention drops old raw rows and leaves
-- the figures as they are.

-- Takes every row of the user out, and the mapping; what remains is a salted hash that keeps late writes out.
-- Waits for writers in flight, so that none of them brings the user back. Rows that retention has dropped
-- already leave the platform's figures, which name nobody, and only the user's own days go.
create function analytics.erase_user(user_id text) returns bigint
language plpgsql security definer set search_path from current
as $$
#variable_conflict use_column
declare
    erased bigint;
    removed bigint;
    erased_key uuid := (
        select user_keys.user_key from analytics.user_keys where user_keys.user_id = erase_user.user_id
    );
begin
    if erase_user.user_id is null or erase_user.user_id = '' then
        raise exception 'a user id is needed: sessions without a user belong to nobody who could be erased'
            using errcode = 'invalid_parameter_value';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'erasure must run in READ COMMITTED: it deletes what the lock made it wait for';
    end if;
    lock table sessions, session_metrics in share row exclusive mode;
    insert into analytics.erased_users (user_hash)
    values (analytics.user_hash(erase_user.user_id))
    on conflict (user_hash) do update set finished_at = null;
    delete from session_metrics where session_metrics.user_id::text = erase_user.user_id;
    get diagnostics erased = row_count;
    delete from sessions where sessions.user_id::text = erase_user.user_id;
    get diagnostics removed = row_count;
    delete from analytics.quarantine where quarantine.user_id = erase_user.user_id;
    delete from marts.daily_user_stats
    where
        daily_user_stats.user_key = erased_key
        and daily_user_stats.activity_date < (analytics.horizon() at time zone 'UTC')::date;
    delete from analytics.user_keys where user_keys.user_id = erase_user.user_id;
    return erased + removed;
end
$$;
comment on function analytics.erase_user is
'Erases a user: source rows (and with the next fold their part of every figure), quarantine and mapping. '
'Returns rows removed.';

-- What remains of erased users once every mart has folded their erasure: changes in the feed, under keys of
-- nobody's, and names that nobody else has. A name is told from its absence in the marts, which must be
-- folded as far as the vectors that count it; its key stays, for readers that hold an older one, and means
-- nothing any more. False where a fold is under way or still to come; true where nothing is left to do.
create function analytics.finish_erasures() returns boolean
language plpgsql security definer set search_path from current
as $$
declare
    -- One that is committed meanwhile is for the next time; one of the same user waits.
    finished bytea[] := (
        select array_agg(waiting.user_hash)
        from (
            select erased_users.user_hash
            from analytics.erased_users
            where erased_users.finished_at is null
            order by erased_users.user_hash
            for update
        ) as waiting
    );
    held pg_snapshot;
begin
    if finished is null then
        return true;
    end if;
    -- Pruning deletes from the feed in another order. It comes back to this itself.
    if not pg_try_advisory_xact_lock(hashtextextended('analytics.prune_changes', 0)) then
        return false;
    end if;
    begin
        perform from analytics.watermarks order by watermarks.mart for update nowait;
    exception when lock_not_available then
        return false;
    end;
    select min(mart_states.watermark::text)::pg_snapshot into held
    from analytics.mart_states
    having
        count(*) = count(mart_states.watermark)
        and count(distinct mart_states.watermark::text) = 1;
    if
        held is null
        or exists (
            select from analytics.session_changes
            where
                analytics.is_unseen(session_changes.xid, held)
                and not exists (
                    select from analytics.user_keys where user_keys.user_key = session_changes.user_key
                )
        )
    then
        return false;
    end if;
    delete from analytics.session_changes
    where
        pg_visible_in_snapshot(session_changes.xid, held)
        and not exists (select from analytics.user_keys where user_keys.user_key = session_changes.user_key);
    update serving.keys
    set kind = 'forgotten', name = keys.key_id::text
    where
        keys.kind = 'asset'
        and not exists (select from marts.daily_asset_counts where daily_asset_counts.symbol = keys.name)
        or keys.kind = 'tag'
        and not exists (select from marts.daily_tag_counts where daily_tag_counts.tag = keys.name)
        or keys.kind = 'query_type'
        and not exists (
            select from marts.daily_query_type_counts where daily_query_type_counts.query_type = keys.name
        );
    update analytics.erased_users set finished_at = clock_timestamp() where erased_users.user_hash = any(finished);
    return true;
end
$$;
comment on function analytics.finish_erasures is
'Takes out what was derived from erased users, once every mart has folded it; pruning does so too.';

-- Where something of a user could be, and how many rows of it are.
create function analytics.erasure_receipt(user_id text) returns table (place text, remaining bigint)
language plpgsql stable security definer set search_path from current
as $$
begin
    return query
    select
        'sessions',
        count(*)
    from sessions
    where sessions.user_id::text = erasure_receipt.user_id
    union all
    select
        'session_metrics',
        count(*)
    from session_metrics
    where session_metrics.user_id::text = erasure_receipt.user_id
    union all
    select
        'analytics.quarantine',
        count(*)
    from analytics.quarantine
    where quarantine.user_id = erasure_receipt.user_id
    union all
    select
        'analytics.user_keys',
        count(*)
    from analytics.user_keys
    where user_keys.user_id = erasure_receipt.user_id
    -- Under a key that is nobody's any more: of this user, or of another one who was erased.
    union all
    select
        'analytics.session_changes',
        count(*)
    from analytics.session_changes
    where not exists (select from analytics.user_keys where user_keys.user_key = session_changes.user_key)
    union all
    select
        'marts.daily_user_stats',
        count(*)
    from marts.daily_user_stats
    where not exists (select from analytics.user_keys where user_keys.user_key = daily_user_stats.user_key)
    union all
    select
        'serving.scopes',
        count(*)
    from serving.scopes
    where
        scopes.user_key is not null
        and not exists (select from analytics.user_keys where user_keys.user_key = scopes.user_key)
    union all
    select
        'names of their own',
        count(*)
    from analytics.erased_users
    where
        erased_users.user_hash = analytics.user_hash(erasure_receipt.user_id)
        and erased_users.finished_at is null;
end
$$;
comment on function analytics.erasure_receipt is
'One row per place in which something of an erased user could be left; all zero when nothing is.';

create function analytics.forget_erasure(user_id text) returns boolean
language plpgsql security definer set search_path from current
as $$
begin
    delete from analytics.erased_users where user_hash = analytics.user_hash(forget_erasure.user_id);
    return found;
end
$$;
comment on function analytics.forget_erasure is 'Admits writes for a user who was erased and came back.';

-- Drops raw rows older than `keep_from` and records the horizon: metrics by created_at, archivals by
-- archived_at. Never past the creation of a session that is not archived yet, whose metrics are still to
-- come, and only what every mart has folded. Returns the horizon reached, a UTC midnight.
create function analytics.apply_retention(keep_from timestamptz) returns timestamptz
language plpgsql security definer set search_path from current
as $$
declare
    reached timestamptz;
begin
    if keep_from is null or keep_from = 'infinity' then
        raise exception 'a time is needed from which rows are kept' using errcode = 'invalid_parameter_value';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'retention must run in READ COMMITTED: it deletes what the lock made it wait for';
    end if;
    -- A fold under way first, so that no writer waits for one.
    perform from analytics.watermarks order by mart for update;
    lock table sessions, session_metrics in share row exclusive mode;
    reached := date_trunc(
        'day',
        least(
            keep_from,
            transaction_timestamp(),
            (select min(sessions.created_at) from sessions where not sessions.is_archived)
        ),
        'UTC'
    );
    if reached <= analytics.horizon() then
        return analytics.horizon();
    end if;
    if exists (
        select from analytics.mart_states as mart_state
        where
            mart_state.watermark is null
            or mart_state.is_rebuild_requested
            or exists (
                select from analytics.session_changes
                where
                    analytics.is_unseen(session_changes.xid, mart_state.watermark)
                    and session_changes.occurred_at < reached
            )
    ) then
        raise exception 'the marts do not hold every row before % yet', reached
            using hint = 'Run a build, then retention again.';
    end if;
    update analytics.settings set horizon = reached, retention_xid = pg_current_xact_id();
    delete from session_metrics where session_metrics.created_at < reached;
    delete from sessions where sessions.is_archived and sessions.archived_at < reached;
    update analytics.settings set retention_xid = null;
    return reached;
end
$$;
comment on function analytics.apply_retention is
'Drops raw rows older than keep_from and leaves the figures; returns the horizon, before which only whole '
'days are known.';

-- What runs with its owner's rights is for those alone to whom it is granted.
revoke execute on function
analytics.archive_expired_sessions(integer), analytics.archive_locked(uuid[]),
analytics.archive_or_set_aside(uuid[]), analytics.archive_session(uuid),
analytics.release_quarantined_sessions(), analytics.record_session_metrics(uuid, jsonb),
analytics.delete_session(uuid), analytics.erase_user(text), analytics.erasure_receipt(text),
analytics.finish_erasures(), analytics.forget_erasure(text),
analytics.apply_retention(timestamptz)
from public;
