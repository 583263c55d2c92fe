-- Who may do what. Roles belong to the cluster and are made, where that is allowed, by
-- fiml/sessions/roles/; here is what each of them is given in this database, and that nobody else has
-- anything.

create table analytics.roles (
    purpose text primary key check (purpose in ('owner', 'app', 'builder', 'reader', 'bi')),
    role_name text not null unique,
    -- Made by this installation, and so taken away with it.
    is_made_here boolean not null
);
comment on table analytics.roles is
'One row per purpose that a role of its own serves. What has none is done by who migrates.';

create table analytics.privileges (
    purpose text not null check (purpose in ('owner', 'app', 'builder', 'reader', 'bi')),
    kind text not null check (kind in ('schema', 'table', 'function')),
    -- Unqualified: one of the application's tables.
    object_name text not null,
    privilege text not null,
    -- Of a table; null means all of them.
    column_name text,
    unique nulls not distinct (purpose, object_name, privilege, column_name)
);
comment on table analytics.privileges is
'One row per privilege that the role of a purpose has on an object of this package or of the application.';

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    listed.kind,
    opened.object_name,
    given.privilege
from (
    values
    ('app', 'schema', array['usage'], array['analytics']),
    ('builder', 'schema', array['usage'], array['analytics', 'marts', 'serving']),
    -- dbt makes the views, and makes one again where its text changed.
    ('builder', 'schema', array['create'], array['marts']),
    ('reader', 'schema', array['usage'], array['analytics', 'marts', 'serving']),
    ('bi', 'schema', array['usage'], array['marts']),

    -- What the triggers do, archival, erasure and retention.
    (
        'owner', 'table', array['select', 'insert', 'update', 'delete'],
        array['sessions', 'session_metrics']
    ),
    -- Metrics are recorded, and sessions deleted, by functions of the owner's.
    ('app', 'table', array['select', 'insert', 'update'], array['sessions']),
    ('app', 'table', array['select'], array['analytics.migrations']),
    (
        'builder', 'table', array['select'],
        array[
            'analytics.migrations', 'analytics.roles', 'analytics.session_facts',
            'analytics.open_sessions', 'analytics.session_metrics_rows', 'serving.layout',
            'serving.decoded_totals'
        ]
    ),
    -- Written by the triggers alone, and pruned.
    ('builder', 'table', array['select', 'delete'], array['analytics.session_changes']),
    ('builder', 'table', array['select', 'insert', 'delete'], array['analytics.build_windows']),
    -- The view is locked row by row as the table is.
    ('builder', 'table', array['select', 'update'], array['analytics.watermarks', 'analytics.mart_states']),
    -- Only ever added to.
    ('builder', 'table', array['select', 'insert'], array['analytics.user_keys', 'serving.keys']),
    (
        'builder', 'table', array['select', 'insert', 'update', 'delete'],
        array[
            'marts.daily_session_stats', 'marts.daily_asset_counts', 'marts.daily_tag_counts',
            'marts.daily_query_type_counts', 'marts.daily_user_stats', 'serving.scopes',
            'serving.session_totals'
        ]
    ),
    (
        'reader', 'table', array['select'],
        array[
            'analytics.migrations', 'analytics.mart_states', 'analytics.session_changes',
            'analytics.session_facts', 'analytics.open_sessions', 'analytics.session_metrics_rows',
            'analytics.user_keys', 'marts.daily_session_stats', 'marts.daily_asset_counts',
            'marts.daily_tag_counts', 'marts.daily_query_type_counts', 'serving.layout', 'serving.scopes',
            'serving.keys', 'serving.session_totals'
        ]
    ),
    (
        'bi', 'table', array['select'],
        array[
            'marts.daily_session_stats', 'marts.daily_asset_counts', 'marts.daily_tag_counts',
            'marts.daily_query_type_counts', 'marts.daily_user_stats'
        ]
    )
) as listed (purpose, kind, privileges, objects)
cross join lateral unnest(listed.privileges) as given (privilege)
cross join lateral unnest(listed.objects) as opened (object_name);

insert into analytics.privileges (purpose, kind, object_name, privilege, column_name)
select
    listed.purpose,
    'table' as kind,
    listed.object_name,
    'select' as privilege,
    opened.column_name
from (
    values
    -- Never the salt of the erased users' hashes.
    ('app', 'analytics.settings', array['source_schema']),
    ('builder', 'analytics.settings', array['source_schema', 'horizon']),
    ('reader', 'analytics.settings', array['source_schema', 'horizon']),
    -- What was set aside, without the rows and whose they were.
    ('builder', 'analytics.quarantine', array['fact', 'reason', 'session_id']),
    -- What models/staging names. Of open sessions nobody who builds needs the content.
    (
        'builder', 'sessions',
        array['id', 'user_id', 'type', 'is_archived', 'created_at', 'expires_at', 'archived_at']
    ),
    (
        'builder', 'session_metrics',
        array[
            'session_id', 'user_id', 'session_type', 'total_queries', 'duration_seconds', 'cache_hit_rate',
            'cache_hit_rate_fraction', 'avg_query_time_ms', 'avg_query_ms', 'assets_analyzed',
            'query_type_summary', 'tags', 'abandoned', 'completed_normally', 'created_at', 'recorded_at'
        ]
    )
) as listed (purpose, object_name, column_names)
cross join lateral unnest(listed.column_names) as opened (column_name);

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    'schema' as kind,
    settings.source_schema as object_name,
    'usage' as privilege
from analytics.settings
cross join unnest(array['owner', 'app', 'builder']) as listed (purpose)
-- It may be one of ours.
on conflict do nothing;

-- By name: a signature is repeated nowhere.
insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    'function' as kind,
    pg_proc.oid::regprocedure::text as object_name,
    'execute' as privilege
from (
    values
    -- What a view calls is called by who reads the view: fct_sessions has these.
    (
        array['builder', 'reader', 'bi'],
        array[
            'analytics.names', 'analytics.counts', 'analytics.set_aside_values', 'analytics.set_aside_names',
            'analytics.set_aside_counts', 'analytics.exploded_set_aside_names',
            'analytics.exploded_set_aside_counts'
        ]
    ),
    (
        array['builder', 'reader'],
        array[
            'analytics.horizon', 'analytics.system_identifier', 'analytics.is_unseen',
            'analytics.read_window', 'serving.start_of', 'serving.nearest_start', 'serving.before',
            'serving.window_ranges', 'serving.outside_of_buckets', 'serving.outside_facts'
        ]
    ),
    (
        array['builder'],
        array[
            'analytics.total', 'analytics.anonymous_key', 'analytics.assign_missing_user_keys',
            'analytics.adopt_feed', 'analytics.open_window', 'analytics.request_rebuild',
            'analytics.begin_fold', 'analytics.end_fold', 'analytics.fold_bounds', 'analytics.fold_ranges',
            'analytics.begin_range', 'analytics.fold_range', 'analytics.days_to_reconcile',
            'analytics.prune_changes', 'analytics.finish_erasures', 'serving.reset',
            'serving.admit_heavy_users', 'serving.key_id', 'serving.new_stamp', 'serving.entry',
            'serving.large_part', 'serving.decoded', 'serving.merged',
            'serving.is_merge_due'
        ]
    ),
    (
        array['app'],
        array[
            'analytics.history_queries', 'analytics.archive_session', 'analytics.archive_expired_sessions',
            'analytics.release_quarantined_sessions', 'analytics.record_session_metrics',
            'analytics.delete_session'
        ]
    )
) as open_functions (purposes, names)
cross join lateral unnest(open_functions.purposes) as listed (purpose)
inner join pg_namespace on pg_namespace.nspname in ('analytics', 'serving')
inner join pg_proc
    on
        pg_namespace.oid = pg_proc.pronamespace
        and pg_namespace.nspname || '.' || pg_proc.proname = any(open_functions.names);

-- Gives a role what the list has for a purpose and it does not have yet: a grant writes the catalogue, and
-- two at once fail. Nothing is revoked; what somebody granted by hand stays. Returns what the caller may not
-- grant. The application's tables are found through search_path.
create function analytics.grant_privileges(purpose text, grantee text) returns setof text
language plpgsql
as $$
declare
    missing record;
begin
    -- PUBLIC is no role, whatever grant takes it for.
    if to_regrole(quote_ident(grantee)) is null then
        raise exception 'there is no role called %', grantee using errcode = 'undefined_object';
    end if;
    for missing in
        select format(
            '%s%s on %s %s',
            privileges.privilege,
            ' (' || quote_ident(privileges.column_name) || ')',
            privileges.kind,
            case
                when privileges.kind = 'schema' then quote_ident(privileges.object_name)
                else privileges.object_name
            end
        ) as privilege
        from analytics.privileges
        where
            privileges.purpose = grant_privileges.purpose
            and not case
                when privileges.kind = 'schema'
                    then has_schema_privilege(grantee, privileges.object_name, privileges.privilege)
                when privileges.kind = 'function'
                    then has_function_privilege(grantee, privileges.object_name, privileges.privilege)
                when privileges.column_name is not null
                    then has_column_privilege(
                        grantee, privileges.object_name, privileges.column_name, privileges.privilege
                    )
                else has_table_privilege(grantee, privileges.object_name, privileges.privilege)
            end
    loop
        begin
            execute format('grant %s to %I', missing.privilege, grantee);
        exception
            when insufficient_privilege then
                return next missing.privilege;
        end;
    end loop;
end
$$;
comment on function analytics.grant_privileges is
'Gives a role what analytics.privileges lists for a purpose and it lacks; returns what could not be given.';

-- With its owner's rights, so that a builder can open the marts, and nothing else, to who is to read them.
create function analytics.open_marts(grantee text) returns void
language plpgsql security definer set search_path from current
as $$ begin perform analytics.grant_privileges('bi', grantee); end $$;
comment on function analytics.open_marts is
'Lets a role read the marts: the tables among them; the views are their builders'' to open.';

-- Descriptions are comments, and only the owner of a table may comment on it.
create function analytics.describe(relation regclass, description text, column_descriptions jsonb)
returns void
language plpgsql security definer set search_path from current
as $$
declare
    described record;
begin
    if not exists (
        select from pg_class
        where
            pg_class.oid = relation
            and pg_class.relkind = 'r'
            and pg_class.relnamespace in ('marts'::regnamespace, 'serving'::regnamespace)
    ) then
        raise exception '% is no table of marts or serving', relation using errcode = 'wrong_object_type';
    end if;
    execute format('comment on table %s is %L', relation, description);
    for described in select key, value from jsonb_each_text(column_descriptions) loop
        execute format('comment on column %s.%I is %L', relation, described.key, described.value);
    end loop;
end
$$;

-- For the rest of the transaction, so that what it makes belongs to the builders and not to the one who
-- built.
create function analytics.become_builder() returns void
language sql
as $$
    select set_config('role', pg_roles.rolname, true)
    from analytics.roles
    inner join pg_roles on roles.role_name = pg_roles.rolname
    where
        roles.purpose = 'builder'
        and pg_roles.rolname <> current_user
        and case
            -- 16 tells being a member from being allowed to become it.
            when current_setting('server_version_num')::integer < 160000
                then pg_has_role(session_user, pg_roles.oid, 'member')
            else pg_has_role(session_user, pg_roles.oid, 'set')
        end
$$;

insert into analytics.privileges (purpose, kind, object_name, privilege)
values
('builder', 'function', 'analytics.open_marts(text)', 'execute'),
('builder', 'function', 'analytics.describe(regclass,text,jsonb)', 'execute'),
('builder', 'function', 'analytics.become_builder()', 'execute');

-- PUBLIC may call what is made, and after a restore without privileges what was made again. What others made
-- in schemas of these names is theirs to close.
create function analytics.close_to_public() returns void
language plpgsql
as $$
declare
    installer oid := (select relowner from pg_class where oid = 'analytics.privileges'::regclass);
    opened record;
begin
    for opened in
        select 'routine ' || pg_proc.oid::regprocedure::text as object_name
        from pg_proc
        where
            pg_proc.pronamespace in ('analytics'::regnamespace, 'serving'::regnamespace)
            and pg_proc.proowner = installer
            and exists (
                select from aclexplode(coalesce(pg_proc.proacl, acldefault('f', pg_proc.proowner))) as given
                where given.grantee = 0
            )
        union all
        select 'table ' || pg_class.oid::regclass::text
        from pg_class
        where
            pg_class.relnamespace in (
                'analytics'::regnamespace, 'marts'::regnamespace, 'serving'::regnamespace
            )
            and pg_class.relowner = installer
            and exists (select from aclexplode(pg_class.relacl) as given where given.grantee = 0)
        union all
        select 'schema ' || pg_namespace.oid::regnamespace::text
        from pg_namespace
        where
            pg_namespace.nspname in ('analytics', 'marts', 'serving')
            and pg_namespace.nspowner = installer
            and exists (select from aclexplode(pg_namespace.nspacl) as given where given.grantee = 0)
    loop
        execute format('revoke all on %s from PUBLIC', opened.object_name);
    end loop;
end
$$;
comment on function analytics.close_to_public is 'Takes from PUBLIC what it has here.';

select analytics.close_to_public();
