-- What the marts are folded from: a signed feed of every change of a fact, filled by triggers so that any
-- writer is covered, and the watermarks that say which part of it a mart has seen.

create table analytics.settings (
    is_only_row boolean primary key default true check (is_only_row),
    source_schema text not null,
    erasure_salt uuid not null default gen_random_uuid(),
    -- Raw rows dated before the horizon were dropped by retention; always a UTC midnight.
    horizon timestamptz not null default '-infinity'
);
comment on table analytics.settings is 'One row: what this installation is bound to.';
insert into analytics.settings (source_schema) values ((current_schemas(false))[1]);

create function analytics.horizon() returns timestamptz
language sql stable parallel safe
as 'select settings.horizon from analytics.settings';

-- Users stand in the marts under a random key; the null user is the key of sessions without a user.
create table analytics.user_keys (
    user_key uuid primary key default gen_random_uuid(),
    user_id text,
    unique nulls not distinct (user_id)
);
comment on table analytics.user_keys is
'One row per user id: the random key it has in the marts. Never opened to BI.';
insert into analytics.user_keys (user_id) values (null);

create function analytics.anonymous_key() returns uuid
language sql stable parallel safe
as 'select user_keys.user_key from analytics.user_keys where user_keys.user_id is null';

create table analytics.erased_users (
    user_hash bytea primary key,
    erased_at timestamptz not null default now(),
    finished_at timestamptz
);
comment on table analytics.erased_users is
'One row per erased user: a salted hash that keeps late writes out; finished when nothing derived is left.';

create function analytics.user_hash(user_id text) returns bytea
language sql stable
as $$ select sha256(convert_to(settings.erasure_salt::text || user_id, 'UTF8')) from analytics.settings $$;

create table analytics.quarantine (
    quarantine_id bigint generated always as identity primary key,
    quarantined_at timestamptz not null default now(),
    fact text not null check (fact in ('metrics', 'archival', 'late archival')),
    session_id uuid,
    user_id text,
    reason text not null,
    source_row jsonb
);
comment on table analytics.quarantine is 'One row per source row that was set aside, with the reason.';
create index on analytics.quarantine (session_id);
create index on analytics.quarantine (user_id);

-- A source row as quarantine keeps it: nothing, where it takes more than a jsonb holds. One column may be as
-- large, or as deep, as that already, and no other row may wait for it.
create function analytics.kept_row(source_row anyelement) returns jsonb
language plpgsql
as $$
begin
    return to_jsonb(source_row);
exception when statement_too_complex or program_limit_exceeded then
    return null;
end
$$;

-- Cleaning. One definition of what counts, for triggers, fold, reader and rebuild. Each of these is plain
-- SQL that the planner inlines, and none can raise, whatever the JSON holds.

create function analytics.names(elements jsonb) returns setof text
language sql immutable parallel safe rows 4
as $$
    select item.name
    from (
        select case when jsonb_typeof(element) = 'string' then element #>> '{}' end as name
        from jsonb_array_elements(case when jsonb_typeof(elements) = 'array' then elements else '[]' end) as element
        -- Kept apart, so that a name is taken out once, not each time that it is compared.
        offset 0
    ) as item
    where length(item.name) between 1 and 255
$$;
comment on function analytics.names is
'The strings of 1 to 255 characters in a JSON array, as often as they stand there.';

create function analytics.counts(members jsonb) returns table (name text, occurrences bigint)
language sql immutable parallel safe rows 4
as $$
    select member.key, member.occurrences::bigint
    from (
        select
            pair.key,
            case when jsonb_typeof(pair.value) = 'number' then pair.value::numeric end as occurrences
        from (
            -- By keys: jsonb_each keeps 400 bytes of each call until the statement ends.
            select
                keys.key,
                held.members -> keys.key as value
            from (
                -- Concatenated with nothing: taken out of line storage once, not once for each key.
                select
                    case when jsonb_typeof(counts.members) = 'object' then counts.members else '{}' end || '{}' as members
                offset 0
            ) as held
            cross join lateral jsonb_object_keys(held.members) as keys (key)
            offset 0
        ) as pair
        offset 0
    ) as member
    where
        length(member.key) between 1 and 255
        and member.occurrences between 1 and 2147483647
        and member.occurrences = trunc(member.occurrences)
$$;
comment on function analytics.counts is
'The members of a JSON object whose name has 1 to 255 characters and whose value is an integer from 1 to '
'2^31-1.';

-- Sums of bigint as bigint: an overflow is an error, and nothing goes through numeric, which costs more than
-- all the rest of a sum.
create aggregate analytics.total (bigint)(
    sfunc = int8pl, stype = bigint, combinefunc = int8pl, parallel = safe
);

-- How many elements, or members, do not count. Every row that is written asks this three times, and nearly
-- always the answer is none: what is too short to hold an over-long name is told so by one look, which the
-- planner can inline; exploding costs ten times as much. With bodies that are parsed here and not where they
-- are called: who reads a view that calls them then needs no name in this schema.

create function analytics.exploded_set_aside_names(elements jsonb) returns integer
language sql immutable parallel safe
begin atomic
    select jsonb_array_length(elements) - count(*)::integer from analytics.names(elements);
end;

create function analytics.set_aside_names(elements jsonb) returns integer
language sql immutable parallel safe
return case
    when elements is null then 0
    when jsonb_typeof(elements) <> 'array' then 1
    when
        length(elements::text) <= 255
        and not jsonb_path_exists(elements, 'strict $[*] ? (@.type() != "string" || @ == "")')
        then 0
    else analytics.exploded_set_aside_names(elements)
end;

create function analytics.exploded_set_aside_counts(members jsonb) returns integer
language sql immutable parallel safe
return
(select count(*)::integer from jsonb_object_keys(members))
- (select count(*)::integer from analytics.counts(members));

create function analytics.set_aside_counts(members jsonb) returns integer
language sql immutable parallel safe
return case
    when members is null then 0
    when jsonb_typeof(members) <> 'object' then 1
    when
        length(members::text) <= 255
        and not members ? ''
        and not jsonb_path_exists(
            members,
            'strict $.* ? (@.type() != "number" || @ < 1 || @ > 2147483647 || @.floor() != @)'
        )
        then 0
    else analytics.exploded_set_aside_counts(members)
end;

create function analytics.set_aside_values(
    total_queries integer,
    duration_seconds integer,
    cache_hit_rate text,
    cache_hit_rate_fraction numeric,
    avg_query_time_ms text,
    avg_query_ms numeric,
    assets jsonb,
    query_types jsonb,
    tags jsonb,
    abandoned boolean,
    completed_normally boolean
) returns integer
language sql immutable parallel safe
return
(total_queries < 0)::integer
+ (duration_seconds < 0)::integer
+ (cache_hit_rate is not null and cache_hit_rate_fraction is null)::integer
+ (avg_query_time_ms is not null and avg_query_ms is null)::integer
+ analytics.set_aside_names(assets)
+ analytics.set_aside_counts(query_types)
+ analytics.set_aside_names(tags)
+ case when abandoned and completed_normally then 1 else 0 end;
comment on function analytics.set_aside_values is
'How many values of one metrics row do not count: elements of the wrong kind, negative figures, rates out '
'of range, a normal end of a session that was abandoned.';

-- One row per fact: what a session contributes to the figures, and when. The feed carries the same columns.
create view analytics.session_facts as
select
    'metrics'::text as fact,
    session_metrics.user_id::text as user_id,
    session_metrics.session_type::text as session_type,
    greatest(session_metrics.total_queries, 0) as total_queries,
    greatest(session_metrics.duration_seconds, 0) as duration_seconds,
    session_metrics.assets_analyzed as assets,
    session_metrics.query_type_summary as query_types,
    session_metrics.tags,
    session_metrics.abandoned,
    session_metrics.completed_normally and not session_metrics.abandoned as completed_normally,
    session_metrics.created_at as occurred_at,
    analytics.set_aside_values(
        session_metrics.total_queries,
        session_metrics.duration_seconds,
        session_metrics.cache_hit_rate,
        session_metrics.cache_hit_rate_fraction,
        session_metrics.avg_query_time_ms,
        session_metrics.avg_query_ms,
        session_metrics.assets_analyzed,
        session_metrics.query_type_summary,
        session_metrics.tags,
        session_metrics.abandoned,
        session_metrics.completed_normally
    ) as set_aside_values
from session_metrics
union all
select
    'archival'::text as fact,
    sessions.user_id::text as user_id,
    sessions.type::text as session_type,
    0 as total_queries,
    0 as duration_seconds,
    null::jsonb as assets,
    null::jsonb as query_types,
    null::jsonb as tags,
    false as abandoned,
    false as completed_normally,
    case when sessions.is_archived then sessions.archived_at end as occurred_at,
    0 as set_aside_values
from sessions;
comment on view analytics.session_facts is
'One row per fact of the source: a session with recorded metrics (at its creation), or its archival (never, '
'that is at null, for a session that is open).';

create view analytics.open_sessions as
select
    sessions.user_id::text as user_id,
    sessions.type::text as session_type,
    sessions.expires_at
from sessions
where not sessions.is_archived;
comment on view analytics.open_sessions is
'One row per session that is not archived; active while expires_at is ahead.';

create view analytics.session_metrics_rows as
select
    session_metrics.session_id,
    session_metrics.user_id,
    session_metrics.session_type,
    session_metrics.created_at,
    session_metrics.duration_seconds,
    session_metrics.total_queries,
    session_metrics.cache_hit_rate,
    session_metrics.avg_query_time_ms,
    session_metrics.assets_analyzed,
    session_metrics.query_type_summary,
    session_metrics.tags,
    session_metrics.completed_normally,
    session_metrics.abandoned
from session_metrics;
comment on view analytics.session_metrics_rows is
'One row per session with recorded metrics, as stored, wherever the source schema is.';

-- xid8 with the top-level transaction id: the system column xmin is 32 bits wide, unindexable, and the
-- subtransaction's.
create table analytics.session_changes (
    xid xid8 not null default pg_current_xact_id(),
    sign smallint not null,
    -- By how much, times the sign, the number of sessions that are not archived changes.
    open_sessions smallint not null,
    fact text not null,
    user_key uuid not null,
    session_type text not null,
    total_queries integer not null,
    duration_seconds integer not null,
    assets jsonb,
    query_types jsonb,
    tags jsonb,
    abandoned boolean not null,
    completed_normally boolean not null,
    occurred_at timestamptz not null,
    set_aside_values integer not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
comment on table analytics.session_changes is
'One row per change of a fact, or of a session being open: +1 added, -1 taken away. Written by triggers '
'only, pruned when every mart has folded it.';
create index on analytics.session_changes (xid);

-- "Has this mart not seen this row?", the one place that says so. The comparison is what an index can use.
create function analytics.is_unseen(xid xid8, watermark pg_snapshot) returns boolean
language sql immutable parallel safe
as $$ select xid >= pg_snapshot_xmin(watermark) and not pg_visible_in_snapshot(xid, watermark) $$;

create table analytics.build_windows (
    window_id bigint generated always as identity primary key,
    run_id text not null unique,
    upper_bound pg_snapshot not null,
    opened_at timestamptz not null default clock_timestamp()
);
comment on table analytics.build_windows is
'One row per build: the snapshot up to which all its models fold.';

-- A snapshot means something in the cluster, and for the feed table, that it was taken from.
create table analytics.watermarks (
    mart text primary key,
    window_id bigint not null default 0,
    watermark pg_snapshot,
    previous_watermark pg_snapshot,
    is_rebuild_requested boolean not null default false,
    system_identifier bigint not null,
    feed_oid oid not null,
    folded_at timestamptz,
    -- From the beginning of that transaction, which may be one for all marts.
    fold_duration interval
);
comment on table analytics.watermarks is
'One row per mart: the snapshot of the feed that the mart holds, changed with it.';

-- Planned once in a session; a function in SQL would be in every transaction, and every read asks.
create function analytics.system_identifier() returns bigint
language plpgsql stable parallel safe
as 'begin return (pg_control_system()).system_identifier; end';

create view analytics.mart_states as
select
    watermarks.mart,
    watermarks.window_id,
    watermarks.folded_at,
    watermarks.is_rebuild_requested,
    case
        when
            watermarks.system_identifier = analytics.system_identifier()
            and watermarks.feed_oid = 'analytics.session_changes'::regclass::oid
            then watermarks.watermark
    end as watermark,
    watermarks.previous_watermark
from analytics.watermarks;
comment on view analytics.mart_states is
'One row per mart: its watermark, null where nothing of it can be trusted here.';

-- Triggers. Security definer, so that a writer needs nothing in this schema.

create function analytics.assign_user_keys(user_ids text[]) returns void
language sql
as $$
    insert into analytics.user_keys (user_id)
    select distinct candidate.user_id
    from unnest(user_ids) as candidate (user_id)
    where
        candidate.user_id is not null
        and not exists (select from analytics.user_keys where user_keys.user_id = candidate.user_id)
    order by candidate.user_id
    on conflict do nothing
$$;
comment on function analytics.assign_user_keys is
'Gives each user that has none a random key, in an order that two writers share.';

-- Who has a key was admitted before; what a snapshot shows that may be older than an erasure proves nothing.
-- Scalar subqueries: of an EXISTS the planner may make a hash of the whole table, and keep it for one row.
create function analytics.is_admitted(user_id text) returns boolean
language sql stable
as $$
    select
        user_id is null
        or (
            current_setting('transaction_isolation') = 'read committed'
            and (
                select user_keys.user_key from analytics.user_keys where user_keys.user_id = is_admitted.user_id
            ) is not null
            and (
                not exists (select from analytics.erased_users)
                or (
                    select true from analytics.erased_users
                    where erased_users.user_hash = analytics.user_hash(is_admitted.user_id)
                ) is null
            )
        )
$$;

-- Erased users stay out, new ones get their keys.
create function analytics.admit_users(user_ids text[]) returns void
language plpgsql
as $$
begin
    if
        exists (select from analytics.erased_users)
        and exists (
            select from unnest(user_ids) as candidate (user_id)
            inner join analytics.erased_users
                on erased_users.user_hash = analytics.user_hash(candidate.user_id)
        )
    then
        raise exception 'this user was erased and cannot be written again'
            using errcode = 'FA001', hint = 'analytics.forget_erasure(user_id) admits a user who came back.';
    end if;
    -- An erasure that is newer than the writer's snapshot cannot be seen in it. Meeting it is a serialization
    -- failure, and the writer tries again.
    if current_setting('transaction_isolation') <> 'read committed' then
        insert into analytics.erased_users (user_hash)
        select distinct analytics.user_hash(candidate.user_id)
        from unnest(user_ids) as candidate (user_id)
        where candidate.user_id is not null
        on conflict do nothing;
        delete from analytics.erased_users
        where user_hash in (select analytics.user_hash(candidate.user_id) from unnest(user_ids) as candidate (user_id));
    end if;
    perform analytics.assign_user_keys(user_ids);
end
$$;

create function analytics.meet_horizon() returns void
language plpgsql
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform from analytics.settings for share;
    end if;
end
$$;
comment on function analytics.meet_horizon is
'A horizon that is newer than the writer''s snapshot cannot be seen in it: meeting it is a serialization '
'failure.';

create function analytics.admit_new_user() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    perform analytics.admit_users(array[new.user_id::text]);
    return new;
end
$$;

-- Tells the trigger of the statement, for the rest of the transaction, that sessions have to be paired.
-- Harmless where it is set for nothing; an update that changes none of these pays for the comparison alone.
create function analytics.note_moved_session() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    if new.user_id is distinct from old.user_id then
        perform analytics.admit_users(array[new.user_id::text]);
    end if;
    perform set_config('analytics.has_moved_sessions', 'yes', true);
    return new;
end
$$;

create function analytics.fill_tags() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    new.tags := coalesce((select sessions.tags from sessions where sessions.id = new.session_id), '[]');
    return new;
end
$$;

-- Who deletes as retention, so that the figures stay: a transaction, not a setting that any writer could
-- make.
alter table analytics.settings add column retention_xid xid8;

create function analytics.is_retention() returns boolean
language sql stable
as $$
    select coalesce(settings.retention_xid = pg_current_xact_id_if_assigned(), false)
    from analytics.settings
$$;

-- The feed rows of one metrics row. Inlined, like everything the triggers call for each row.
create function analytics.metrics_change(
    sign integer, user_id text, session_type text, total_queries integer, duration_seconds integer,
    assets jsonb, query_types jsonb, tags jsonb, abandoned boolean, completed_normally boolean,
    created_at timestamptz, cache_hit_rate text, cache_hit_rate_fraction numeric,
    avg_query_time_ms text, avg_query_ms numeric
) returns setof analytics.session_changes
language sql stable rows 1
as $$
    select
        pg_current_xact_id(),
        sign::smallint,
        0::smallint,
        'metrics',
        coalesce(
            (select user_keys.user_key from analytics.user_keys where user_keys.user_id = metrics_change.user_id),
            (select analytics.anonymous_key())
        ),
        session_type,
        greatest(total_queries, 0),
        greatest(duration_seconds, 0),
        assets,
        query_types,
        tags,
        abandoned,
        completed_normally and not abandoned,
        created_at,
        analytics.set_aside_values(
            total_queries, duration_seconds, cache_hit_rate, cache_hit_rate_fraction,
            avg_query_time_ms, avg_query_ms, assets, query_types, tags, abandoned, completed_normally
        )
$$;

-- The feed row of a session that was archived, or (no time of archival) that opened or ceased to be open.
create function analytics.session_change(
    sign integer, open_sessions integer, user_id text, session_type text, archived_at timestamptz
)
returns setof analytics.session_changes
language sql stable rows 1
as $$
    select
        pg_current_xact_id(),
        sign::smallint,
        open_sessions::smallint,
        case when archived_at is null then 'opening' else 'archival' end,
        coalesce(
            (select user_keys.user_key from analytics.user_keys where user_keys.user_id = session_change.user_id),
            (select analytics.anonymous_key())
        ),
        session_type,
        0,
        0,
        null::jsonb,
        null::jsonb,
        null::jsonb,
        false,
        false,
        coalesce(archived_at, transaction_timestamp()),
        0
$$;

-- Rows that came or went; the transition table is called changed_rows in both.
create function analytics.log_session_metrics() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    if tg_op = 'INSERT' then
        perform analytics.meet_horizon();
        if exists (select from changed_rows where not analytics.is_admitted(changed_rows.user_id)) then
            perform analytics.admit_users((select array_agg(distinct changed_rows.user_id) from changed_rows));
        end if;
    elsif analytics.is_retention() then
        return null;
    end if;
    insert into analytics.session_changes
    select change.*
    from changed_rows as row
    cross join lateral analytics.metrics_change(
        case tg_op when 'INSERT' then 1 else -1 end, row.user_id, row.session_type,
        row.total_queries, row.duration_seconds, row.assets_analyzed, row.query_type_summary, row.tags,
        row.abandoned, row.completed_normally, row.created_at,
        row.cache_hit_rate, row.cache_hit_rate_fraction, row.avg_query_time_ms, row.avg_query_ms
    ) as change;
    -- Behind the horizon nothing can be added any more. The rows were written, so they are taken out again.
    if tg_op = 'INSERT' and exists (
        select from changed_rows where changed_rows.created_at < (select analytics.horizon())
    ) then
        insert into analytics.quarantine (fact, session_id, user_id, reason, source_row)
        select
            'metrics', changed_rows.session_id, changed_rows.user_id,
            'created before the retention horizon', analytics.kept_row(changed_rows)
        from changed_rows
        where changed_rows.created_at < (select analytics.horizon());
        delete from session_metrics
        using changed_rows
        where
            session_metrics.id = changed_rows.id
            and changed_rows.created_at < (select analytics.horizon());
    end if;
    return null;
end
$$;

-- Rows that became others. `except all` on both sides writes nothing for a fact that stayed as it was, and
-- keeps the plan safe: a join of the transition tables would keep the plan of its first, one-row call.
create function analytics.log_session_metrics_update() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    perform analytics.meet_horizon();
    insert into analytics.session_changes
    with old_facts as (
        select
            user_id, session_type, total_queries, duration_seconds, assets_analyzed, query_type_summary, tags,
            abandoned, completed_normally, created_at,
            cache_hit_rate, cache_hit_rate_fraction, avg_query_time_ms, avg_query_ms
        from old_rows
    ),
    new_facts as (
        select
            user_id, session_type, total_queries, duration_seconds, assets_analyzed, query_type_summary, tags,
            abandoned, completed_normally, created_at,
            cache_hit_rate, cache_hit_rate_fraction, avg_query_time_ms, avg_query_ms
        from new_rows
    ),
    changed_rows as (
        select -1 as sign, gone.* from (table old_facts except all table new_facts) as gone
        union all
        select 1 as sign, come.* from (table new_facts except all table old_facts) as come
    )
    select change.*
    from changed_rows as row
    cross join lateral analytics.metrics_change(
        row.sign, row.user_id, row.session_type,
        row.total_queries, row.duration_seconds, row.assets_analyzed, row.query_type_summary, row.tags,
        row.abandoned, row.completed_normally, row.created_at,
        row.cache_hit_rate, row.cache_hit_rate_fraction, row.avg_query_time_ms, row.avg_query_ms
    ) as change;
    if exists (select from new_rows where created_at < (select analytics.horizon())) then
        insert into analytics.quarantine (fact, session_id, user_id, reason, source_row)
        select
            'metrics', new_rows.session_id, new_rows.user_id,
            'created before the retention horizon', analytics.kept_row(new_rows)
        from new_rows
        where new_rows.created_at < (select analytics.horizon());
        delete from session_metrics
        using new_rows
        where session_metrics.id = new_rows.id and new_rows.created_at < (select analytics.horizon());
    end if;
    return null;
end
$$;

create function analytics.log_sessions() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    if tg_op = 'INSERT' then
        perform analytics.meet_horizon();
        if exists (select from changed_rows where not analytics.is_admitted(changed_rows.user_id)) then
            perform analytics.admit_users((select array_agg(distinct changed_rows.user_id) from changed_rows));
        end if;
    end if;
    if tg_op = 'DELETE' and analytics.is_retention() then
        return null;
    end if;
    insert into analytics.session_changes
    select change.*
    from changed_rows as row
    cross join lateral analytics.session_change(
        case tg_op when 'INSERT' then 1 else -1 end,
        case when row.is_archived then 0 else 1 end,
        row.user_id,
        row.type,
        case when row.is_archived then row.archived_at end
    ) as change
    where not row.is_archived or (row.is_archived and row.archived_at is not null);
    if tg_op = 'INSERT' and exists (
        select from changed_rows where is_archived and archived_at < (select analytics.horizon())
    ) then
        insert into analytics.quarantine (fact, session_id, user_id, reason, source_row)
        select
            'late archival', changed_rows.id, changed_rows.user_id,
            'archived before the retention horizon', analytics.kept_row(changed_rows)
        from changed_rows
        where changed_rows.is_archived and changed_rows.archived_at < (select analytics.horizon());
        delete from sessions
        using changed_rows
        where
            sessions.id = changed_rows.id
            and changed_rows.is_archived
            and changed_rows.archived_at < (select analytics.horizon());
    end if;
    return null;
end
$$;

-- A session that is archived is one row: it counts as archived, and no longer as open. Nearly always all of
-- them were open and stay with their user and type; then the new rows say everything. Else old and new are
-- paired by grouping: a join of the transition tables would keep the plan of its first, one-row call. User
-- and type are part of the group, so that one that changed is taken from the one and given to the other.
create function analytics.log_sessions_update() returns trigger
language plpgsql security definer set search_path from current
as $$
begin
    if
        coalesce(current_setting('analytics.has_moved_sessions', true), '') = ''
        and not exists (select from old_rows where is_archived is not false)
    then
        -- Every touch of an open session comes here: leave at once.
        if not exists (select from new_rows where is_archived is not false) then
            return null;
        end if;
        insert into analytics.session_changes
        select change.*
        from new_rows as row
        cross join lateral (
            select
                case when row.is_archived and row.archived_at is not null then 1 else -1 end as sign,
                case when row.is_archived then row.archived_at end as archived_at
        ) as ended
        cross join lateral analytics.session_change(
            ended.sign, -ended.sign, row.user_id, row.type, ended.archived_at
        ) as change
        where row.is_archived is not false;
    else
        insert into analytics.session_changes
        select change.*
        from (
            select
                row.user_id,
                row.type,
                coalesce(sum(row.side) filter (where not row.is_archived), 0) as opened,
                max(row.archived_at) filter (where row.side = -1 and row.is_archived) as archived_before,
                max(row.archived_at) filter (where row.side = 1 and row.is_archived) as archived_after
            from (
                select -1 as side, id, user_id, type, is_archived, archived_at from old_rows
                union all
                select 1 as side, id, user_id, type, is_archived, archived_at from new_rows
            ) as row
            group by row.id, row.user_id, row.type
        ) as session
        cross join lateral (
            values (-1, session.archived_before, session.archived_after),
            (1, session.archived_after, session.archived_before)
        ) as side (sign, archived_at, archived_otherwise)
        cross join lateral analytics.session_change(
            side.sign,
            case when side.archived_at is null then 1 else side.sign * session.opened::integer end,
            session.user_id,
            session.type,
            side.archived_at
        ) as change
        where case
            when side.archived_at is null then session.opened = side.sign and side.archived_otherwise is null
            else side.archived_at is distinct from side.archived_otherwise
        end;
    end if;
    perform analytics.meet_horizon();
    if exists (select from new_rows where archived_at < (select analytics.horizon()) and is_archived) then
        insert into analytics.quarantine (fact, session_id, user_id, reason, source_row)
        select
            'late archival', new_rows.id, new_rows.user_id,
            'archived before the retention horizon', analytics.kept_row(new_rows)
        from new_rows
        where new_rows.archived_at < (select analytics.horizon()) and new_rows.is_archived;
        delete from sessions
        using new_rows
        where sessions.id = new_rows.id and new_rows.archived_at < (select analytics.horizon()) and new_rows.is_archived;
    end if;
    return null;
end
$$;

create function analytics.refuse_truncate() returns trigger
language plpgsql
as $$
begin
    raise exception 'TRUNCATE of % is refused: it would pass the change feed by', tg_relid::regclass
        using hint = 'Use DELETE, which takes the rows out of the figures too.';
end
$$;

create trigger analytics_admit_user after update on sessions
for each row when (
    new.user_id is distinct from old.user_id or new.type is distinct from old.type or new.id <> old.id
)
execute function analytics.note_moved_session();
create trigger analytics_log_insert after insert on sessions
referencing new table as changed_rows for each statement execute function analytics.log_sessions();
create trigger analytics_log_update after update on sessions
referencing old table as old_rows new table as new_rows
for each statement execute function analytics.log_sessions_update();
create trigger analytics_log_delete after delete on sessions
referencing old table as changed_rows for each statement execute function analytics.log_sessions();
create trigger analytics_refuse_truncate before truncate on sessions
for each statement execute function analytics.refuse_truncate();

create trigger analytics_admit_user after update on session_metrics
for each row when (new.user_id is distinct from old.user_id) execute function analytics.admit_new_user();
create trigger analytics_fill_tags before insert on session_metrics
for each row when (new.tags is null or jsonb_typeof(new.tags) = 'null')
execute function analytics.fill_tags();
create trigger analytics_log_insert after insert on session_metrics
referencing new table as changed_rows for each statement execute function analytics.log_session_metrics();
create trigger analytics_log_update after update on session_metrics
referencing old table as old_rows new table as new_rows
for each statement execute function analytics.log_session_metrics_update();
create trigger analytics_log_delete after delete on session_metrics
referencing old table as changed_rows for each statement execute function analytics.log_session_metrics();
create trigger analytics_refuse_truncate before truncate on session_metrics
for each statement execute function analytics.refuse_truncate();

-- Users that were here before the triggers.
select analytics.assign_user_keys(array_agg(distinct known.user_id))
from (
    select sessions.user_id from sessions
    union
    select session_metrics.user_id from session_metrics
) as known;
