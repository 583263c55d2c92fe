-- Figures of periods that lie side by side, such as the days of a month: what analytics.read_window does for
-- one window that ends now, for each of them. A period has the figures of the window that begins where it
-- begins, minus those of the window that begins where the next one does; rows of both are not even read.

-- The parts of each period's answer, for the reader to add up, in one statement and so in one snapshot. Every
-- row counts `sign` times. The columns are those of analytics.read_window, and before them:
--
--   period    1 for what is dated in [boundaries[1], boundaries[2]), and so on
--
-- A last boundary that is not before `as_of` is `as_of`, and the last period the open one: sessions that are
-- active count there, as part `active`, and `open_sessions` means nothing in another. Behind the horizon the
-- platform has whole days alone, and a user nothing: boundaries move to the beginning of their day, or to the
-- horizon.
--
-- There is always a row `window`, of period 1. No row at all: the layer cannot answer. Where names are not to
-- be told, no row has any: they are far larger than the sums.
create function analytics.read_periods(
    user_id text,
    session_type text,
    boundaries timestamptz[],
    as_of timestamptz,
    is_set_aside_counted boolean,
    are_names_told boolean
)
returns table (
    period integer,
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
-- As in analytics.read_window: a plan without the parameters, and through indexes.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    layer record;
    wanted_key uuid;
    now_at timestamptz := coalesce(read_periods.as_of, transaction_timestamp());
    last_period integer := cardinality(read_periods.boundaries) - 1;
    is_open boolean := read_periods.boundaries[last_period + 1] >= now_at;
begin
    if read_periods.user_id is not null then
        select user_keys.user_key into wanted_key
        from analytics.user_keys where user_keys.user_id = read_periods.user_id;
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
            and scopes.session_type is not distinct from read_periods.session_type
    inner join analytics.mart_states on mart_states.mart = 'session_totals';
    if layer.watermark is null or read_periods.boundaries[1] < '2000-03-01 00:00+00' then
        return;
    end if;

    return query
    with cuts as materialized (
        select
            boundary.period::integer as period,
            moved.since,
            buckets.bucket,
            hours.hour,
            days.day,
            spans.span,
            (
                select min(running.starts_at)
                from serving.session_totals as running
                where
                    running.scope_id = layer.scope_id
                    and running.level = 'running'
                    and running.starts_at >= spans.span
            ) as next_running
        from unnest(read_periods.boundaries) with ordinality as boundary (since, period)
        cross join lateral (
            select
                case
                    when boundary.since >= layer.horizon then boundary.since
                    when wanted_key is null then date_trunc('day', boundary.since, 'UTC')
                    else layer.horizon
                end as since
        ) as moved
        cross join lateral (
            select
                serving.nearest_start(
                    moved.since, case when wanted_key is null then layer.bucket_width else layer.hour_width end
                ) as bucket
        ) as buckets
        cross join lateral (select serving.nearest_start(buckets.bucket, layer.hour_width) as hour) as hours
        cross join lateral (select serving.nearest_start(hours.hour, interval '1 day') as day) as days
        cross join lateral (select serving.nearest_start(days.day, layer.running_width) as span) as spans
        -- What the open period ends with is the end of everything.
        where not is_open or boundary.period <= last_period
    ),
    -- Each cut is where one period begins and the one before ends.
    sides as materialized (
        select cuts.period, 1 as side, cuts.since, cuts.bucket, cuts.hour, cuts.day, cuts.span, cuts.next_running
        from cuts
        where cuts.period <= last_period
        union all
        select cuts.period - 1, -1, cuts.since, cuts.bucket, cuts.hour, cuts.day, cuts.span, cuts.next_running
        from cuts
        where cuts.period > 1
    ),
    covered as (
        select
            sides.period,
            total.level,
            total.starts_at,
            sum(sides.side * range.sign)::integer as sign
        from sides
        cross join lateral serving.window_ranges(
            sides.bucket, sides.hour, sides.day, sides.span, sides.next_running
        ) as range
        cross join lateral (
            select session_totals.level, session_totals.starts_at
            from serving.session_totals
            where
                session_totals.scope_id = layer.scope_id
                and session_totals.level = range.level
                and session_totals.starts_at between range.first_start and range.last_start
            -- Looked up range by range, never joined.
            offset 0
        ) as total
        group by sides.period, total.level, total.starts_at
        having sum(sides.side * range.sign) <> 0
    ),
    pieces as (
        select
            sides.period,
            'edge' as part,
            case when sides.since < sides.bucket then sides.side else -sides.side end as sign,
            least(sides.since, sides.bucket) as starts_at,
            greatest(sides.since, sides.bucket) as ends_before
        from sides
        union all
        select last_period, 'future', -1, now_at, 'infinity'
        where is_open
    ),
    unseen as materialized (
        select
            changes.*,
            width_bucket(
                changes.occurred_at, (select array_agg(cuts.bucket order by cuts.period) from cuts)
            ) as period
        from analytics.session_changes as changes
        where
            analytics.is_unseen(changes.xid, layer.watermark)
            -- Once more for the index, as in analytics.read_window.
            and (
                changes.xid >= pg_snapshot_xmax(layer.watermark)
                or changes.xid = any(array(select pg_snapshot_xip(layer.watermark)))
            )
            and (wanted_key is null or changes.user_key = wanted_key)
            and (read_periods.session_type is null or changes.session_type = read_periods.session_type)
    ),
    facts as (
        select
            unseen.period, 'unseen' as part, unseen.sign::integer as sign, unseen.fact, unseen.session_type,
            unseen.total_queries, unseen.duration_seconds, unseen.abandoned, unseen.set_aside_values,
            case when are_names_told then unseen.assets end as assets,
            case when are_names_told then unseen.query_types end as query_types,
            case when are_names_told then unseen.tags end as tags
        from unseen
        where
            unseen.fact <> 'opening'
            and unseen.occurred_at < 'infinity'
            and unseen.period between 1 and last_period
        union all
        select
            pieces.period, pieces.part, pieces.sign, facts.fact, facts.session_type,
            facts.total_queries, facts.duration_seconds, facts.abandoned,
            case when is_set_aside_counted then facts.set_aside_values else 0 end,
            case when are_names_told then facts.assets end,
            case when are_names_told then facts.query_types end,
            case when are_names_told then facts.tags end
        from pieces
        inner join analytics.session_facts as facts
            on facts.occurred_at >= pieces.starts_at and facts.occurred_at < pieces.ends_before
        where
            read_periods.user_id is null
            and (read_periods.session_type is null or facts.session_type = read_periods.session_type)
        union all
        -- As serving.outside_facts: an index of its own for a user's.
        select
            pieces.period, pieces.part, pieces.sign, facts.fact, facts.session_type,
            facts.total_queries, facts.duration_seconds, facts.abandoned,
            case when is_set_aside_counted then facts.set_aside_values else 0 end,
            case when are_names_told then facts.assets end,
            case when are_names_told then facts.query_types end,
            case when are_names_told then facts.tags end
        from pieces
        inner join analytics.session_facts as facts
            on
                facts.user_id = read_periods.user_id
                and facts.occurred_at >= pieces.starts_at and facts.occurred_at < pieces.ends_before
        where read_periods.session_type is null or facts.session_type = read_periods.session_type
    ),
    open_now as (
        select
            case
                when wanted_key is not null then 0
                else
                    coalesce((select sum(unseen.sign * unseen.open_sessions) from unseen), 0)
                    - (
                        select count(*)
                        from analytics.open_sessions as ended
                        where
                            ended.expires_at <= now_at
                            and (
                                read_periods.session_type is null
                                or ended.session_type = read_periods.session_type
                            )
                    )
                    - (
                        select count(*)
                        from analytics.open_sessions as endless
                        where
                            endless.expires_at is null
                            and (
                                read_periods.session_type is null
                                or endless.session_type = read_periods.session_type
                            )
                    )
            end
            + (
                -- So few that nobody folds them.
                select count(*)
                from analytics.open_sessions as active
                where
                    active.user_id = read_periods.user_id
                    and active.expires_at > now_at
                    and (read_periods.session_type is null or active.session_type = read_periods.session_type)
            ) as sessions
        where is_open
    )
    select
        1, 'window', 1, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
        null::text, null::text, null::text, null::text, null::bytea, null::bigint,
        pg_postmaster_start_time()::text || pg_relation_filepath('serving.keys'),
        now_at, (select cuts.since from cuts where cuts.period = 1),
        case when isfinite(layer.horizon) then layer.horizon end, layer.watermark::text
    union all
    select
        covered.period, 'folded', covered.sign, 0, total.sessions, total.queries, total.duration_seconds,
        total.abandoned_sessions, total.archived_sessions, total.set_aside_values, total.open_sessions,
        null, null, null, null, case when are_names_told then array_send(total.settled || total.added) end,
        null, null, null, null, null, null
    from covered
    cross join lateral (
        select session_totals.*
        from serving.session_totals
        where
            session_totals.scope_id = layer.scope_id
            and session_totals.level = covered.level
            and session_totals.starts_at = covered.starts_at
        offset 0
    ) as total
    union all
    select
        facts.period,
        facts.part,
        facts.sign,
        count(*),
        count(*) filter (where facts.fact = 'metrics'),
        sum(facts.total_queries::bigint)::bigint,
        sum(facts.duration_seconds::bigint)::bigint,
        count(*) filter (where facts.abandoned),
        count(*) filter (where facts.fact = 'archival'),
        sum(facts.set_aside_values::bigint)::bigint,
        0,
        '[' || string_agg(
            case when are_names_told then to_jsonb(facts.session_type)::text end, ','
        ) filter (where facts.fact = 'metrics') || ']',
        '[' || string_agg(facts.assets::text, ',') || ']',
        '[' || string_agg(facts.query_types::text, ',') || ']',
        '[' || string_agg(facts.tags::text, ',') || ']',
        null, null, null, null, null, null, null
    from facts
    group by facts.period, facts.part, facts.sign
    union all
    select
        last_period, 'active', 1, 0, 0, 0, 0, 0, 0, 0, open_now.sessions::bigint,
        null, null, null, null, null, null, null, null, null, null, null
    from open_now;
end
$$;
comment on function analytics.read_periods is
'The figures of periods that lie side by side, in parts that are added up.';

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    'function' as kind,
    pg_proc.oid::regprocedure::text as object_name,
    'execute' as privilege
from (values ('builder'), ('reader')) as listed (purpose)
inner join pg_proc
    on pg_proc.proname = 'read_periods' and pg_proc.pronamespace = 'analytics'::regnamespace;
