-- The serving layer: figures of any window from a handful of rows, however long the window and however many
-- sessions. A row holds the sums of one scope in one stretch of time, and a sparse vector that says how often
-- each name counts:
--
--   bucket, hour, day   what is dated in [starts_at, starts_at + width)
--   running             everything dated before starts_at; at 'infinity', everything
--   open                sessions that are not archived, whenever they began
--
-- A window that begins at c is then: running at 'infinity' - running at the nearest span - or + the days,
-- hours and buckets between that span and c. Sums at every level, so that a late row, a correction or an
-- erasure is one more entry in one row of each level. Filled by the model models/serving/session_totals.sql.

create table serving.layout (
    is_only_row boolean primary key default true check (is_only_row),
    -- Narrow buckets leave fewer source rows to read at a window's edge, and take more space.
    bucket_width interval not null default '5 minutes',
    hour_width interval not null default '1 hour',
    running_days integer not null default 8,
    -- A user with so many sessions has totals of his own, if not more than so many users have more.
    heavy_user_sessions integer not null default 2000,
    heavy_users integer not null default 200,
    -- Every running row has an entry of each name that came before it.
    keyed_names integer not null default 1000000,
    -- Keys have 22 bits; zero is none, and the first one is everything else's.
    constraint keyed_names_in_range check (keyed_names between 0 and 4194302),
    constraint heavy_user_sessions_in_range check (heavy_user_sessions between 1 and 1000000),
    constraint heavy_users_in_range check (heavy_users between 0 and 1000),
    constraint bucket_width_divides_hour_width check (
        bucket_width between '1 minute' and hour_width
        and extract(epoch from hour_width)::integer % extract(epoch from bucket_width)::integer = 0
        and extract(microseconds from bucket_width)::bigint % 1000000 = 0
    ),
    constraint hour_width_divides_a_day check (
        hour_width between '10 minutes' and '12 hours'
        and 86400 % extract(epoch from hour_width)::integer = 0
        and extract(microseconds from hour_width)::bigint % 1000000 = 0
    ),
    constraint running_days_in_range check (running_days between 1 and 64)
);
comment on table serving.layout is
'One row: the widths of the levels, and whom and what the layer knows at most. Changed through '
'analytics.set_serving_layout alone.';
insert into serving.layout default values;

create table serving.scopes (
    scope_id integer generated always as identity primary key,
    user_key uuid,
    session_type text,
    -- Admitted by the fold under way, which reads the user's history.
    is_new boolean not null default false,
    unique nulls not distinct (user_key, session_type)
);
comment on table serving.scopes is
'One row per question that has totals of its own: the platform (both null), a session type, or one of the '
'heaviest users.';
insert into serving.scopes (session_type)
select scope.session_type
from unnest(array[null, 'equity', 'crypto', 'portfolio', 'comparative', 'macro']) as scope (session_type);

create table serving.keys (
    key_id integer primary key check (key_id between 1 and 4194303),
    kind text not null check (
        kind in ('session_type', 'asset', 'tag', 'query_type', 'forgotten', 'overflow')
    ),
    name text not null,
    unique (kind, name)
);
comment on table serving.keys is
'One row per name that is counted. Only added to; a name is forgotten when all who had it were erased. Names '
'that came when all keys were given away count together as overflow: the marts answer windows with them.';
insert into serving.keys (key_id, kind, name) values (1, 'overflow', '');

create table serving.session_totals (
    scope_id integer not null,
    level text collate "C" not null check (level in ('bucket', 'hour', 'day', 'running', 'open')),
    starts_at timestamptz not null,
    -- Another one with every change of the row: a reader that holds the row's content knows it by this.
    stamp bigint not null,
    sessions bigint not null,
    queries bigint not null,
    duration_seconds bigint not null,
    abandoned_sessions bigint not null,
    archived_sessions bigint not null,
    set_aside_values bigint not null,
    open_sessions bigint not null,
    -- Entries, one per key, in order. Rewritten now and then; kept out of line, where an update of the rest
    -- leaves it alone.
    settled bigint[] not null,
    -- Entries that came since; a key may stand here several times.
    added bigint[] not null,
    primary key (scope_id, level, starts_at)
) with (fillfactor = 80);
comment on table serving.session_totals is
'One row per scope, level and start: sums, and a sparse vector of names. Decoded: serving.decoded_totals.';

-- Entries ---------------------------------------------------------------------------------------------------
-- An entry is key * 2^40 + n with |n| < 2^39. What is larger has a second entry, under the negative key, that
-- counts 2^38 each.

create function serving.entry(key_id bigint, n bigint) returns bigint
language sql immutable parallel safe
as 'select (key_id << 40) + n';

create function serving.large_part(n bigint) returns bigint
language sql immutable parallel safe
as 'select (n + 137438953472) >> 38';
comment on function serving.large_part is 'How often 2^38 is in a count, so that the rest fits an entry.';

create function serving.decoded(entries bigint[]) returns table (key_id integer, n bigint)
language sql immutable parallel safe rows 1000
as $$
    select
        abs(split.key_id)::integer,
        (split.entry - (split.key_id << 40)) << case when split.key_id < 0 then 38 else 0 end
    from (
        select entry, (entry + 549755813888) >> 40 as key_id
        from unnest(entries) as entry
    ) as split
$$;
comment on function serving.decoded is 'What the entries say; a key may be named several times.';

create function serving.merged(entries bigint[]) returns bigint[]
language sql immutable parallel safe
as $$
    with summed as (
        select
            decoded.key_id,
            analytics.total(decoded.n) as n,
            serving.large_part(analytics.total(decoded.n)) as large
        from serving.decoded(entries) as decoded
        group by decoded.key_id
        having analytics.total(decoded.n) <> 0
    )
    select coalesce(array_agg(split.entry order by split.entry), '{}')
    from (
        select serving.entry(summed.key_id, summed.n - (summed.large << 38)) as entry
        from summed
        where summed.n <> summed.large << 38
        union all
        select serving.entry(-summed.key_id, summed.large)
        from summed
        where summed.large <> 0
    ) as split
$$;
comment on function serving.merged is 'The same counts with one entry per key, in order; none for zero.';

-- Whether appending would make the appended part long against the settled one. By stored size, which
-- PostgreSQL knows without reading an array that is out of line.
create function serving.is_merge_due(settled bigint[], added bigint[], more bigint[]) returns boolean
language sql immutable parallel safe
as $$
    select pg_column_size(added) + pg_column_size(more) > greatest(1500, pg_column_size(settled) / 4)
$$;

create function serving.key_id(kind text, name text) returns integer
language plpgsql
as $$
#variable_conflict use_variable
declare
    found_id integer := (select keys.key_id from serving.keys where keys.kind = kind and keys.name = name);
begin
    if found_id is null then
        found_id := (select max(keys.key_id) + 1 from serving.keys);
        if found_id > (select layout.keyed_names + 1 from serving.layout) then
            return (select keys.key_id from serving.keys where keys.kind = 'overflow');
        end if;
        -- A commit that readers see and a crash then loses would give its keys away a second time.
        if current_setting('synchronous_commit') = 'off' then
            perform set_config('synchronous_commit', 'on', true);
        end if;
        insert into serving.keys (key_id, kind, name) values (found_id, kind, name);
    end if;
    return found_id;
end
$$;
comment on function serving.key_id is
'The key of a name; a name that has none gets one, or that of the overflow if no more are given away. Called '
'under the lock of the watermark, so never twice at once.';

create function serving.new_stamp() returns bigint
language sql volatile parallel restricted
as 'select (floor(random() * 2147483648)::bigint << 31) + floor(random() * 2147483648)::bigint';

-- Time ------------------------------------------------------------------------------------------------------

-- Windows begin 3650 days ago at most: everything before 2000 is one bucket, and everything after 2199.
create function serving.start_of(moment timestamptz, width interval) returns timestamptz
language sql immutable parallel safe
as $$
    select date_bin(
        width,
        greatest(least(moment, '2200-01-01 00:00+00'), '2000-01-01 00:00+00'),
        '2000-01-01 00:00+00'
    )
$$;

-- Stable, as timestamptz + interval is: what says immutable is planned anew in every transaction instead of
-- being written into the caller's plan. No width depends on a time zone.
create function serving.nearest_start(moment timestamptz, width interval) returns timestamptz
language sql stable parallel safe
as 'select serving.start_of(moment + width / 2, width)';

create view serving.decoded_totals as
select
    scopes.session_type as scope,
    session_totals.level,
    session_totals.starts_at,
    keys.kind,
    keys.name,
    sum(decoded.n)::bigint as n
from serving.session_totals
inner join serving.scopes on session_totals.scope_id = scopes.scope_id
cross join lateral serving.decoded(session_totals.settled || session_totals.added) as decoded
inner join serving.keys on decoded.key_id = keys.key_id
group by
    session_totals.scope_id, scopes.session_type, session_totals.level, session_totals.starts_at,
    keys.kind, keys.name
having sum(decoded.n) <> 0;
comment on view serving.decoded_totals is
'One row per scope, level, start and name: the vectors of session_totals, readable. For people and tests.';

-- Folding ---------------------------------------------------------------------------------------------------

insert into analytics.watermarks (mart, system_identifier, feed_oid)
values ('session_totals', analytics.system_identifier(), 'analytics.session_changes'::regclass::oid);

-- Before a rebuild: keeps the days behind the horizon, from which nothing could be made again, and what is
-- running up to it; takes everything else away.
create function serving.reset() returns void
language plpgsql
as $$
declare
    horizon timestamptz := analytics.horizon();
    running_width interval := (select make_interval(days => layout.running_days) from serving.layout);
    scope record;
    span record;
    total serving.session_totals;
begin
    delete from serving.scopes where user_key is not null;
    delete from serving.session_totals
    where
        level <> 'day'
        or starts_at >= horizon
        or scope_id not in (select scopes.scope_id from serving.scopes);
    insert into serving.scopes (user_key)
    select user_keys.user_key
    from (
        select
            rows.user_id,
            count(*) as sessions
        from analytics.session_metrics_rows as rows
        where rows.user_id is not null
        group by rows.user_id
    ) as users
    cross join serving.layout
    inner join analytics.user_keys on users.user_id = user_keys.user_id
    where users.sessions >= layout.heavy_user_sessions
    order by users.sessions desc, users.user_id
    limit (select layout.heavy_users from serving.layout);
    for scope in select scopes.scope_id from serving.scopes loop
        total.scope_id := scope.scope_id;
        total.level := 'running';
        total.sessions := 0;
        total.queries := 0;
        total.duration_seconds := 0;
        total.abandoned_sessions := 0;
        total.archived_sessions := 0;
        total.set_aside_values := 0;
        total.open_sessions := 0;
        total.settled := '{}';
        total.added := '{}';
        for span in
            select
                serving.start_of(days.starts_at, running_width) as starts_at,
                sum(days.sessions)::bigint as sessions,
                sum(days.queries)::bigint as queries,
                sum(days.duration_seconds)::bigint as duration_seconds,
                sum(days.abandoned_sessions)::bigint as abandoned_sessions,
                sum(days.archived_sessions)::bigint as archived_sessions,
                sum(days.set_aside_values)::bigint as set_aside_values
            from serving.session_totals as days
            where days.scope_id = scope.scope_id and days.level = 'day'
            group by 1
            order by 1
        loop
            total.starts_at := span.starts_at;
            total.stamp := serving.new_stamp();
            insert into serving.session_totals select total.*;
            total.sessions := total.sessions + span.sessions;
            total.queries := total.queries + span.queries;
            total.duration_seconds := total.duration_seconds + span.duration_seconds;
            total.abandoned_sessions := total.abandoned_sessions + span.abandoned_sessions;
            total.archived_sessions := total.archived_sessions + span.archived_sessions;
            total.set_aside_values := total.set_aside_values + span.set_aside_values;
            total.settled := (
                select serving.merged(total.settled || array_agg(entry))
                from serving.session_totals as days
                cross join lateral unnest(days.settled || days.added) as entry
                where
                    days.scope_id = scope.scope_id and days.level = 'day'
                    and serving.start_of(days.starts_at, running_width) = span.starts_at
            );
        end loop;
        total.starts_at := 'infinity';
        total.stamp := serving.new_stamp();
        insert into serving.session_totals select total.*;
    end loop;
end
$$;

-- Before any other fold: the users who have become heavy with what it adds, and not those who were erased.
create function serving.admit_heavy_users() returns void
language plpgsql
as $$
declare
    layout serving.layout := (select layout from serving.layout);
    bounds record;
    erased integer[];
begin
    select array_agg(scopes.scope_id) into erased
    from serving.scopes
    where
        scopes.user_key is not null
        and not exists (select from analytics.user_keys where user_keys.user_key = scopes.user_key);
    if erased is not null then
        delete from serving.session_totals where scope_id = any(erased);
        delete from serving.scopes where scope_id = any(erased);
    end if;
    select * into bounds from analytics.fold_bounds();
    insert into serving.scopes (user_key, is_new)
    select candidates.user_key, true
    from (
        select distinct session_changes.user_key
        from analytics.session_changes
        where
            analytics.is_unseen(session_changes.xid, bounds.lower_bound)
            and pg_visible_in_snapshot(session_changes.xid, bounds.upper_bound)
            and session_changes.fact = 'metrics'
            and session_changes.sign = 1
    ) as candidates
    inner join analytics.user_keys on candidates.user_key = user_keys.user_key
    where
        not exists (select from serving.scopes where scopes.user_key = candidates.user_key)
        and layout.heavy_user_sessions = (
            select count(*)
            from (
                select from analytics.session_metrics_rows as rows
                where rows.user_id = user_keys.user_id
                limit layout.heavy_user_sessions
            ) as sessions
        )
    limit greatest(
        layout.heavy_users - (select count(*) from serving.scopes where scopes.user_key is not null), 0
    );
end
$$;

-- A rebuild takes some spans after the others, so that what it holds at once is bounded; any
-- other fold takes everything in one range.
create function analytics.fold_ranges()
returns table (starts_at timestamptz, ends_before timestamptz)
language plpgsql stable
as $$
declare
    running_width interval := (select make_interval(days => layout.running_days) from serving.layout);
    -- A setting, so that a test can have many ranges.
    facts integer := coalesce(nullif(current_setting('analytics.facts_of_a_range', true), ''), '50000');
    found_at timestamptz;
begin
    starts_at := '-infinity';
    if
        current_setting('analytics.fold_mart', true) = 'session_totals'
        and current_setting('analytics.fold_outcome', true) = 'rebuild'
    then
        loop
            select session_facts.occurred_at into found_at
            from analytics.session_facts
            where session_facts.occurred_at >= starts_at and session_facts.occurred_at < 'infinity'
            order by session_facts.occurred_at
            offset facts limit 1;
            exit when found_at is null;
            ends_before := serving.start_of(found_at, running_width) + running_width;
            -- What lies beyond the last bucket is in it.
            exit when found_at >= ends_before;
            return next;
            starts_at := ends_before;
        end loop;
    end if;
    ends_before := 'infinity';
    return next;
end
$$;

create function analytics.begin_range(starts_at timestamptz, ends_before timestamptz) returns void
language sql
as $$
    select
        set_config('analytics.fold_starts_at', begin_range.starts_at::text, true),
        set_config('analytics.fold_ends_before', begin_range.ends_before::text, true)
$$;

-- Which part of its time the fold that is under way has come to: all of it, unless begin_range said
-- otherwise.
create function analytics.fold_range()
returns table (starts_at timestamptz, ends_before timestamptz)
language sql stable rows 1
as $$
    select
        coalesce(nullif(current_setting('analytics.fold_starts_at', true), ''), '-infinity')::timestamptz,
        coalesce(nullif(current_setting('analytics.fold_ends_before', true), ''), 'infinity')::timestamptz
$$;

create function analytics.set_serving_layout(
    bucket_width interval default null,
    hour_width interval default null,
    running_days integer default null,
    heavy_user_sessions integer default null,
    heavy_users integer default null,
    keyed_names integer default null
) returns void
language plpgsql
as $$
begin
    perform from analytics.watermarks where mart = 'session_totals' for update;
    update serving.layout
    set
        bucket_width = coalesce(set_serving_layout.bucket_width, layout.bucket_width),
        hour_width = coalesce(set_serving_layout.hour_width, layout.hour_width),
        running_days = coalesce(set_serving_layout.running_days, layout.running_days),
        heavy_user_sessions = coalesce(set_serving_layout.heavy_user_sessions, layout.heavy_user_sessions),
        heavy_users = coalesce(set_serving_layout.heavy_users, layout.heavy_users),
        keyed_names = coalesce(set_serving_layout.keyed_names, layout.keyed_names);
    update analytics.watermarks set watermark = null where mart = 'session_totals';
end
$$;
comment on function analytics.set_serving_layout is
'Changes the layout of the serving layer; the next fold rebuilds it, and the marts answer until then.';

-- Reading ---------------------------------------------------------------------------------------------------

create function serving.before(moment timestamptz) returns timestamptz
language sql stable parallel safe
as $$ select moment - interval '1 microsecond' $$;

-- Which rows add up to everything folded that is dated from a bucket's start on: everything, minus what is
-- running before the nearest span, and what is between that span and the bucket. The next running total from
-- the span's start on serves: nothing is dated between.
create function serving.window_ranges(
    bucket timestamptz, hour timestamptz, day timestamptz, span timestamptz, next_running timestamptz
)
returns table (sign integer, level text, first_start timestamptz, last_start timestamptz)
language sql stable parallel safe rows 6
as $$
    values
    (1, 'running', 'infinity'::timestamptz, 'infinity'::timestamptz),
    (1, 'open', 'infinity', 'infinity'),
    (-1, 'running', next_running, next_running),
    (case when day < span then 1 else -1 end, 'day', least(day, span), serving.before(greatest(day, span))),
    (case when hour < day then 1 else -1 end, 'hour', least(hour, day), serving.before(greatest(hour, day))),
    (
        case when bucket < hour then 1 else -1 end, 'bucket',
        least(bucket, hour), serving.before(greatest(bucket, hour))
    )
$$;

-- Source rows that are read one by one: between the window's beginning and the nearest bucket, and those
-- dated from its end on, which the layer holds and the window does not.
create function serving.outside_of_buckets(since timestamptz, bucket timestamptz, now_at timestamptz)
returns table (part text, sign integer, starts_at timestamptz, ends_before timestamptz)
language sql immutable parallel safe rows 2
as $$
    values
    (
        'edge', case when since < bucket then 1 else -1 end,
        least(since, bucket), greatest(since, bucket)
    ),
    ('future', -1, now_at, 'infinity'::timestamptz)
$$;

-- Those rows. Everybody's are found by time and a user's by user and time, each by an index of its own: one
-- condition for both would have a user wait for everybody's.
create function serving.outside_facts(
    since timestamptz, bucket timestamptz, now_at timestamptz, user_id text, session_type text
)
returns table (
    part text, sign integer, fact text, session_type text, total_queries integer, duration_seconds integer,
    abandoned boolean, set_aside_values integer, assets jsonb, query_types jsonb, tags jsonb
)
language sql stable parallel safe
as $$
    select
        beyond.part, beyond.sign, facts.fact, facts.session_type, facts.total_queries, facts.duration_seconds,
        facts.abandoned, facts.set_aside_values, facts.assets, facts.query_types, facts.tags
    from serving.outside_of_buckets(since, bucket, now_at) as beyond
    inner join analytics.session_facts as facts
        on facts.occurred_at >= beyond.starts_at and facts.occurred_at < beyond.ends_before
    where
        outside_facts.user_id is null
        and (outside_facts.session_type is null or facts.session_type = outside_facts.session_type)
    union all
    select
        beyond.part, beyond.sign, facts.fact, facts.session_type, facts.total_queries, facts.duration_seconds,
        facts.abandoned, facts.set_aside_values, facts.assets, facts.query_types, facts.tags
    from serving.outside_of_buckets(since, bucket, now_at) as beyond
    inner join analytics.session_facts as facts
        on
            facts.user_id = outside_facts.user_id
            and facts.occurred_at >= beyond.starts_at and facts.occurred_at < beyond.ends_before
    where outside_facts.session_type is null or facts.session_type = outside_facts.session_type
$$;

-- One answer's parts, for the reader to add up. One statement, and in it one snapshot: what a stable function
-- asks, it asks in the snapshot of the statement that called it. Every row counts `sign` times:
--
--   window       when it is; for everybody, (below zero) the sessions that are open in the source and not
--                active any more, for a user those that are active;
--                `incarnation` changes when another server, or a restored one, may give keys other names
--   folded       entries of the serving layer; none where `known_etag` says that the reader holds them
--   unseen       changes that the layer has not folded
--   edge         source rows between the window's beginning and the nearest bucket
--   future       source rows dated from `as_of` on, which the layer holds and the window does not
--
-- Names come as JSON, as they are stored: the reader takes those that are clean, and asks for the others. No
-- row at all: the layer cannot answer, and the marts can.
create function analytics.read_window(
    user_id text,
    session_type text,
    days integer,
    as_of timestamptz,
    known_etag bigint,
    is_set_aside_counted boolean
)
returns table (
    part text,
    sign integer,
    fact_rows bigint,
    sessions bigint,
    queries bigint,
    duration_seconds bigint,
    abandoned_sessions bigint,
    archived_sessions bigint,
    set_aside_values bigint,
    open_sessions bigint,
    session_types text,
    assets text,
    query_types text,
    tags text,
    entries bytea,
    etag bigint,
    incarnation text,
    as_of_time timestamptz,
    window_start timestamptz,
    horizon timestamptz,
    watermark text
)
language plpgsql stable
-- A plan is made once, without the parameters: nothing here is ever better read as a whole.
set enable_seqscan = off
-- A few groups of a few hundred rows, which the plan takes for millions.
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
    layer record;
    wanted_key uuid;
    now_at timestamptz := coalesce(read_window.as_of, transaction_timestamp());
    since timestamptz := now_at - read_window.days * interval '24 hours';
    bucket timestamptz;
    hour timestamptz;
    day timestamptz;
    span timestamptz;
    next_running timestamptz;
begin
    if read_window.user_id is not null then
        select user_keys.user_key into wanted_key
        from analytics.user_keys where user_keys.user_id = read_window.user_id;
        if wanted_key is null then
            return;
        end if;
    end if;
    select
        layout.bucket_width, layout.hour_width, make_interval(days => layout.running_days) as running_width,
        scopes.scope_id, mart_states.watermark, settings.horizon
    into layer
    from serving.layout
    cross join analytics.settings
    inner join serving.scopes
        on
            scopes.user_key is not distinct from wanted_key
            and scopes.session_type is not distinct from read_window.session_type
    inner join analytics.mart_states on mart_states.mart = 'session_totals';
    if layer.watermark is null or since < '2000-03-01 00:00+00' then
        return;
    end if;
    -- Behind the horizon the platform has whole days alone, and a user nothing.
    if since < layer.horizon then
        since := case when wanted_key is null then date_trunc('day', since, 'UTC') else layer.horizon end;
    end if;
    -- A user's hours hold so few rows that there are no buckets of them.
    bucket := serving.nearest_start(
        since, case when wanted_key is null then layer.bucket_width else layer.hour_width end
    );
    hour := serving.nearest_start(bucket, layer.hour_width);
    day := serving.nearest_start(hour, interval '1 day');
    span := serving.nearest_start(day, layer.running_width);
    select min(running.starts_at) into next_running
    from serving.session_totals as running
    where running.scope_id = layer.scope_id and running.level = 'running' and running.starts_at >= span;

    part := 'window';
    sign := 1;
    as_of_time := now_at;
    window_start := since;
    horizon := case when isfinite(layer.horizon) then layer.horizon end;
    watermark := layer.watermark::text;
    incarnation := pg_postmaster_start_time()::text || pg_relation_filepath('serving.keys');
    select bit_xor(range.sign * total.stamp) into etag
    from serving.window_ranges(bucket, hour, day, span, next_running) as range
    cross join lateral (
        select session_totals.stamp
        from serving.session_totals
        where
            session_totals.scope_id = layer.scope_id
            and session_totals.level = range.level
            and session_totals.starts_at between range.first_start and range.last_start
        -- Looked up range by range, never joined.
        offset 0
    ) as total;
    if wanted_key is null then
        select -count(*) into open_sessions
        from analytics.open_sessions as ended
        where
            ended.expires_at <= now_at
            and (read_window.session_type is null or ended.session_type = read_window.session_type);
        select open_sessions - count(*) into open_sessions
        from analytics.open_sessions as endless
        where
            endless.expires_at is null
            and (read_window.session_type is null or endless.session_type = read_window.session_type);
    else
        -- So few that nobody folds them.
        select count(*) into open_sessions
        from analytics.open_sessions as active
        where
            active.user_id = read_window.user_id
            and active.expires_at > now_at
            and (read_window.session_type is null or active.session_type = read_window.session_type);
    end if;
    return next;

    if etag is distinct from known_etag then
        return query
        select
            'folded', range.sign, 0::bigint, total.sessions, total.queries, total.duration_seconds,
            total.abandoned_sessions, total.archived_sessions, total.set_aside_values, total.open_sessions,
            null, null, null, null, array_send(total.settled || total.added),
            null::bigint, null, null::timestamptz, null::timestamptz, null::timestamptz, null
        from serving.window_ranges(bucket, hour, day, span, next_running) as range
        cross join lateral (
            select session_totals.*
            from serving.session_totals
            where
                session_totals.scope_id = layer.scope_id
                and session_totals.level = range.level
                and session_totals.starts_at between range.first_start and range.last_start
            offset 0
        ) as total;
    end if;

    return query
    select
        facts.part,
        facts.sign,
        count(*) filter (where facts.is_inside),
        count(*) filter (where facts.is_inside and facts.fact = 'metrics'),
        sum(facts.total_queries::bigint) filter (where facts.is_inside)::bigint,
        sum(facts.duration_seconds::bigint) filter (where facts.is_inside)::bigint,
        count(*) filter (where facts.is_inside and facts.abandoned),
        count(*) filter (where facts.is_inside and facts.fact = 'archival'),
        sum(facts.set_aside_values::bigint) filter (where facts.is_inside)::bigint,
        sum(facts.open_sessions)::bigint,
        '[' || string_agg(to_jsonb(facts.session_type)::text, ',')
            filter (where facts.is_inside and facts.fact = 'metrics') || ']',
        '[' || string_agg(facts.assets::text, ',') filter (where facts.is_inside) || ']',
        '[' || string_agg(facts.query_types::text, ',') filter (where facts.is_inside) || ']',
        '[' || string_agg(facts.tags::text, ',') filter (where facts.is_inside) || ']',
        null::bytea, null::bigint, null, null::timestamptz, null::timestamptz, null::timestamptz, null
    from (
        select
            'unseen' as part, changes.sign::integer as sign, changes.fact, changes.session_type,
            changes.total_queries, changes.duration_seconds, changes.abandoned, changes.set_aside_values,
            case when wanted_key is null then changes.open_sessions else 0 end as open_sessions,
            changes.assets, changes.query_types, changes.tags,
            changes.fact <> 'opening' and changes.occurred_at >= bucket and changes.occurred_at < 'infinity'
                as is_inside
        from analytics.session_changes as changes
        where
            analytics.is_unseen(changes.xid, layer.watermark)
            -- Once more for the index: what began later, or was under way, however long something else has been.
            and (
                changes.xid >= pg_snapshot_xmax(layer.watermark)
                or changes.xid = any(array(select pg_snapshot_xip(layer.watermark)))
            )
            and (wanted_key is null or changes.user_key = wanted_key)
            and (read_window.session_type is null or changes.session_type = read_window.session_type)
        union all
        select
            facts.part, facts.sign, facts.fact, facts.session_type,
            facts.total_queries, facts.duration_seconds, facts.abandoned, 0, 0,
            facts.assets, facts.query_types, facts.tags, true
        from serving.outside_facts(since, bucket, now_at, read_window.user_id, read_window.session_type) as facts
    ) as facts
    group by facts.part, facts.sign;

    -- Looking at every value takes as long as everything else: only where it is asked for.
    if is_set_aside_counted then
        return query
        select
            facts.part, facts.sign, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
            sum(facts.set_aside_values::bigint)::bigint, 0::bigint,
            null, null, null, null,
            null::bytea, null::bigint, null, null::timestamptz, null::timestamptz, null::timestamptz, null
        from serving.outside_facts(since, bucket, now_at, read_window.user_id, read_window.session_type) as facts
        group by facts.part, facts.sign;
    end if;
end
$$;
