-- Archival: the metrics of a session are computed, stored and the session marked in one transaction, so that
-- a crash loses nothing and repeats nothing, and any number of archivers can work side by side.

-- Seconds that fit the column, from a time that may be missing, infinite or before the start. The difference
-- of two times, as an interval, overflows where they are far enough apart.
create function analytics.seconds_between(starts_at timestamptz, ends_at timestamptz) returns integer
language sql stable parallel safe
as $$
    select case
        when isfinite(starts_at) and isfinite(ends_at)
            then least(
                greatest(floor(extract(epoch from ends_at) - extract(epoch from starts_at)), 0), 2147483647
            )::integer
        else 0
    end
$$;

-- A row per query of a session's history that is an object at all. A figure of the wrong kind, or a time
-- that no query takes, is null: it must not spoil the average of the others. `offset 0` keeps each step
-- apart, so that it is done once for all that is made of it.
create function analytics.history_queries(history jsonb)
returns table (query_type text, execution_ms numeric, is_cache_hit boolean)
language sql immutable parallel safe rows 10
as $$
    select
        typed.query_type,
        case when typed.execution_ms between 0 and 1e15 then typed.execution_ms end,
        typed.is_cache_hit
    from (
        select
            case when jsonb_typeof(member.query_type) = 'string' then member.query_type #>> '{}' end as query_type,
            case
                when jsonb_typeof(member.execution_time_ms) = 'number' then member.execution_time_ms::numeric
            end as execution_ms,
            coalesce(member.cache_hit = 'true', false) as is_cache_hit
        from (
            select
                query -> 'query_type' as query_type,
                query -> 'execution_time_ms' as execution_time_ms,
                query -> 'cache_hit' as cache_hit
            from jsonb_array_elements(
                case when jsonb_typeof(history) = 'array' then history else '[]' end
            ) as query
            where jsonb_typeof(query) = 'object'
            offset 0
        ) as member
        offset 0
    ) as typed
$$;

-- Metrics of one session that ended at `ended_at`. Duration: creation to the earlier of its end and its
-- expiry. How it ended: explicitly, where it ended before its expiry.
create function analytics.metrics_of(
    created_at timestamptz,
    expires_at timestamptz,
    history jsonb,
    stored_queries integer,
    ended_at timestamptz
)
returns table (
    duration_seconds integer,
    total_queries integer,
    cache_hit_rate text,
    avg_query_time_ms text,
    query_type_summary jsonb,
    completed_normally boolean,
    abandoned boolean
)
language sql stable rows 1
as $$
    select
        analytics.seconds_between(created_at, least(ended_at, expires_at)),
        counted.queries,
        counted.cache_hit_rate,
        counted.avg_query_time_ms,
        counted.query_type_summary,
        counted.is_explicit,
        not counted.is_explicit and counted.queries < 2
    from (
        select
            greatest(stored_queries, sum(typed.queries)::integer, 0) as queries,
            coalesce(
                round(sum(typed.cache_hits)::numeric / nullif(sum(typed.queries), 0), 6), 0
            )::text as cache_hit_rate,
            round(sum(typed.total_ms) / nullif(sum(typed.timed_queries), 0), 3)::text as avg_query_time_ms,
            coalesce(
                jsonb_object_agg(typed.query_type, typed.queries)
                    filter (where length(typed.query_type) between 1 and 255),
                '{}'
            ) as query_type_summary,
            coalesce(expires_at > ended_at, false) as is_explicit
        from (
            select
                query.query_type,
                count(*)::integer as queries,
                (count(*) filter (where query.is_cache_hit))::integer as cache_hits,
                count(query.execution_ms)::integer as timed_queries,
                sum(query.execution_ms) as total_ms
            from analytics.history_queries(history) as query
            group by query.query_type
        ) as typed
    ) as counted
$$;

-- Writes the metrics of sessions as they stand in these rows, ended when they were archived, else now.
create function analytics.write_metrics(recorded sessions[]) returns void
language sql
as $$
    insert into session_metrics (
        session_id, user_id, session_type, created_at, duration_seconds, total_queries, cache_hit_rate,
        avg_query_time_ms, assets_analyzed, query_type_summary, completed_normally, abandoned, tags,
        recorded_at
    )
    select
        session.id, session.user_id, session.type, session.created_at, metrics.duration_seconds,
        metrics.total_queries, metrics.cache_hit_rate, metrics.avg_query_time_ms,
        coalesce(session.assets, '[]'), metrics.query_type_summary,
        metrics.completed_normally, metrics.abandoned, coalesce(session.tags, '[]'), transaction_timestamp()
    from unnest(recorded) as session
    cross join lateral analytics.metrics_of(
        session.created_at, session.expires_at, session.query_history, session.total_queries,
        coalesce(session.archived_at, transaction_timestamp())
    ) as metrics
    on conflict (session_id) do update set
        user_id = excluded.user_id,
        session_type = excluded.session_type,
        created_at = excluded.created_at,
        duration_seconds = excluded.duration_seconds,
        total_queries = excluded.total_queries,
        cache_hit_rate = excluded.cache_hit_rate,
        avg_query_time_ms = excluded.avg_query_time_ms,
        assets_analyzed = excluded.assets_analyzed,
        query_type_summary = excluded.query_type_summary,
        completed_normally = excluded.completed_normally,
        abandoned = excluded.abandoned,
        tags = excluded.tags,
        recorded_at = excluded.recorded_at
$$;

-- Archives sessions that the caller has locked, all or none. What the sessions table says of a session wins
-- over metrics recorded before its end. Memory for a batch: what triggers see of it would go through files.
create function analytics.archive_locked(session_ids uuid[]) returns void
language plpgsql security definer set search_path from current set work_mem = '64MB'
as $$
declare
    archived sessions[];
    archived_sessions bigint;
begin
    with ended as (
        update sessions
        set is_archived = true, archived_at = transaction_timestamp()
        where id = any(session_ids) and not is_archived
        returning sessions as session, is_archived
    )
    select array_agg(ended.session), count(*) filter (where ended.is_archived) into archived, archived_sessions
    from ended;
    perform analytics.write_metrics(archived);
    -- Else it would be found, and its metrics written, by every archival from now on.
    if archived_sessions < cardinality(session_ids) then
        raise exception 'a trigger on sessions keeps the session from being archived';
    end if;
end
$$;

-- False when there is nothing to archive.
create function analytics.archive_session(session_id uuid) returns boolean
language plpgsql security definer set search_path from current
as $$
begin
    perform from sessions where sessions.id = archive_session.session_id and not sessions.is_archived for update;
    if not found then
        return false;
    end if;
    perform analytics.archive_locked(array[archive_session.session_id]);
    delete from analytics.quarantine
    where quarantine.session_id = archive_session.session_id and quarantine.fact = 'archival';
    return true;
end
$$;

-- Archives the sessions that can be archived, of those that the caller has locked, and sets the others aside
-- with the reason. One that cannot is found by halving, so that it costs the others little.
create function analytics.archive_or_set_aside(
    session_ids uuid[], out archived bigint, out quarantined bigint
)
language plpgsql security definer set search_path from current
as $$
declare
    middle integer := cardinality(session_ids) / 2;
begin
    begin
        perform analytics.archive_locked(session_ids);
        archived := cardinality(session_ids);
        quarantined := 0;
        return;
    exception when others then
        -- What speaks of the server or of the schema, and not of a row, is the caller's to solve: connection,
        -- transaction state, rollback, privileges and names, resources, locks, operator, system, internal.
        if left(sqlstate, 2) = any(array['08', '25', '40', '42', '53', '55', '57', '58', 'XX']) then
            raise;
        end if;
        if middle = 0 then
            insert into analytics.quarantine (fact, session_id, user_id, reason, source_row)
            select 'archival', sessions.id, sessions.user_id, sqlerrm, analytics.kept_row(sessions)
            from sessions
            where sessions.id = session_ids[1];
            archived := 0;
            quarantined := 1;
            return;
        end if;
    end;
    select sum(part.archived), sum(part.quarantined) into archived, quarantined
    from (values (session_ids[:middle]), (session_ids[middle + 1:])) as halves (session_ids)
    cross join lateral analytics.archive_or_set_aside(halves.session_ids) as part;
end
$$;

-- One batch: at most `batch_size` expired sessions that no other archiver holds.
create function analytics.archive_expired_sessions(
    batch_size integer, out archived bigint, out quarantined bigint
)
language plpgsql security definer set search_path from current
as $$
declare
    batch uuid [];
begin
    select array_agg(expired.id) into batch
    from (
        select sessions.id
        from sessions
        where
            not sessions.is_archived
            and sessions.expires_at <= transaction_timestamp()
            and not exists (
                select from analytics.quarantine
                where quarantine.session_id = sessions.id and quarantine.fact = 'archival'
            )
        order by sessions.expires_at
        limit batch_size
        for update skip locked
    ) as expired;
    if batch is null then
        archived := 0;
        quarantined := 0;
        return;
    end if;
    select part.archived, part.quarantined into archived, quarantined
    from analytics.archive_or_set_aside(batch) as part;
end
$$;

create function analytics.release_quarantined_sessions() returns bigint
language plpgsql security definer set search_path from current
as $$
declare
    released bigint;
begin
    delete from analytics.quarantine where fact = 'archival';
    get diagnostics released = row_count;
    return released;
end
$$;
comment on function analytics.release_quarantined_sessions is
'Lets the next archival try again the sessions that it had set aside.';

-- Metrics before archival: computed from what the database holds of the session; `fallback`, the sessions row
-- as JSON, counts only for a session it does not hold. After archival nothing changes. True when written.
create function analytics.record_session_metrics(session_id uuid, fallback jsonb) returns boolean
language plpgsql security definer set search_path from current
as $$
declare
    recorded sessions;
    is_stored boolean;
begin
    select * into recorded from sessions where sessions.id = record_session_metrics.session_id for update;
    is_stored := found;
    if not is_stored then
        recorded := jsonb_populate_record(null::sessions, fallback);
        recorded.id := record_session_metrics.session_id;
    end if;
    if
        coalesce(recorded.is_archived, false)
        and exists (
            select from session_metrics
            where session_metrics.session_id = record_session_metrics.session_id
        )
    then
        return false;
    end if;
    perform analytics.write_metrics(array[recorded]);
    -- False as well where the row was set aside: dated before the retention horizon.
    return exists (
        select from session_metrics where session_metrics.session_id = record_session_metrics.session_id
    );
end
$$;

-- The session, its metrics and what was set aside of it, as if it had never been. Locks the session first, as
-- archival does.
create function analytics.delete_session(session_id uuid) returns boolean
language plpgsql security definer set search_path from current
as $$
declare
    is_deleted boolean;
begin
    delete from sessions where sessions.id = delete_session.session_id;
    is_deleted := found;
    delete from session_metrics where session_metrics.session_id = delete_session.session_id;
    is_deleted := is_deleted or found;
    delete from analytics.quarantine where quarantine.session_id = delete_session.session_id;
    return is_deleted;
end
$$;
