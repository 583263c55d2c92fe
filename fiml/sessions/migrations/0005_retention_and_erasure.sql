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
    on conflict do nothing;
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
analytics.delete_session(uuid), analytics.erase_user(text), analytics.forget_erasure(text),
analytics.apply_retention(timestamptz)
from public;
