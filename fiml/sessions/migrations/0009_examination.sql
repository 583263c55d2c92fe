-- What `doctor` asks of roles, with the builders' rights; and what makes and closes asks the same.

-- By names in the catalogue, so that who may not look into a schema can ask too. An object that is not there
-- is lacked.
create function analytics.missing_privileges(purpose text, grantee text) returns setof text
language sql stable
set search_path from current
as $$
    select
        format(
            '%s%s on %s %s',
            privileges.privilege,
            ' (' || quote_ident(privileges.column_name) || ')',
            privileges.kind,
            case
                when privileges.kind = 'schema' then quote_ident(privileges.object_name)
                else privileges.object_name
            end
        )
    from analytics.privileges
    cross join analytics.settings
    left join pg_namespace
        on
            pg_namespace.nspname = case
                when privileges.kind = 'schema' then privileges.object_name
                when strpos(privileges.object_name, '.') > 0 then split_part(privileges.object_name, '.', 1)
                else settings.source_schema
            end
    left join pg_class
        on
            privileges.kind = 'table'
            and pg_namespace.oid = pg_class.relnamespace
            and pg_class.relname = split_part(privileges.object_name, '.', -1)
    left join pg_attribute
        on
            pg_class.oid = pg_attribute.attrelid
            and privileges.column_name = pg_attribute.attname
            and not pg_attribute.attisdropped
    left join pg_proc
        on
            privileges.kind = 'function'
            and pg_namespace.oid = pg_proc.pronamespace
            and pg_proc.oid::regprocedure::text = privileges.object_name
    where
        privileges.purpose = missing_privileges.purpose
        and case
            when privileges.kind = 'schema'
                then has_schema_privilege(grantee, pg_namespace.oid, privileges.privilege)
            when privileges.kind = 'function'
                then has_function_privilege(grantee, pg_proc.oid, privileges.privilege)
            when privileges.column_name is not null
                then has_column_privilege(
                    grantee, pg_class.oid, pg_attribute.attnum, privileges.privilege
                )
            else has_table_privilege(grantee, pg_class.oid, privileges.privilege)
        end is not true
$$;
comment on function analytics.missing_privileges is
'What analytics.privileges lists for a purpose and a role does not have, as it is written in a grant.';

create or replace function analytics.grant_privileges(purpose text, grantee text) returns setof text
language plpgsql
as $$
declare
    missing text;
begin
    -- PUBLIC is no role, whatever grant takes it for.
    if to_regrole(quote_ident(grantee)) is null then
        raise exception 'there is no role called %', grantee using errcode = 'undefined_object';
    end if;
    for missing in select analytics.missing_privileges(purpose, grantee) loop
        begin
            execute format('grant %s to %I', missing, grantee);
        exception
            when insufficient_privilege then
                return next missing;
        end;
    end loop;
end
$$;

-- What others made in schemas of these names is theirs to close. The view is its builder's, who is a role of
-- ours or who migrates.
create function analytics.open_to_public() returns setof text
language sql stable
as $$
    with installer as (
        select pg_class.relowner as oid from pg_class where pg_class.oid = 'analytics.privileges'::regclass
    ),

    relations as (
        select
            pg_class.oid,
            pg_class.relacl
        from pg_class
        inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
        cross join installer
        where
            pg_namespace.nspname in ('analytics', 'marts', 'serving')
            and (
                pg_class.relowner = installer.oid
                or (
                    pg_namespace.nspname = 'marts'
                    and pg_class.relname = 'fct_sessions'
                    and pg_class.relowner in (
                        select pg_roles.oid
                        from analytics.roles
                        inner join pg_roles on roles.role_name = pg_roles.rolname
                    )
                )
            )
    ),

    objects as (
        select
            'routine ' || pg_proc.oid::regprocedure::text as object_name,
            coalesce(pg_proc.proacl, acldefault('f', pg_proc.proowner)) as privileges
        from pg_proc
        inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
        cross join installer
        where pg_namespace.nspname in ('analytics', 'serving') and pg_proc.proowner = installer.oid
        union all
        select
            'table ' || relations.oid::regclass::text,
            relations.relacl
        from relations
        union all
        -- What is taken from a table is taken from its columns.
        select
            'table ' || relations.oid::regclass::text,
            pg_attribute.attacl
        from relations
        inner join pg_attribute on relations.oid = pg_attribute.attrelid
        union all
        select
            'schema ' || pg_namespace.oid::regnamespace::text,
            pg_namespace.nspacl
        from pg_namespace
        cross join installer
        where
            pg_namespace.nspname in ('analytics', 'marts', 'serving')
            and pg_namespace.nspowner = installer.oid
    )

    select distinct objects.object_name
    from objects
    where exists (select from aclexplode(objects.privileges) as given where given.grantee = 0)
    order by objects.object_name
$$;
comment on function analytics.open_to_public is
'What of this package PUBLIC may use, as it is written in a revoke; nothing, where nobody opened it.';

create or replace function analytics.close_to_public() returns void
language plpgsql
as $$
declare
    opened text;
begin
    for opened in select analytics.open_to_public() loop
        begin
            execute format('revoke all on %s from PUBLIC', opened);
        exception
            -- The view of a builder that who migrates is no member of; `doctor` names it.
            when insufficient_privilege then null;
        end;
    end loop;
end
$$;

insert into analytics.privileges (purpose, kind, object_name, privilege)
values
('builder', 'table', 'analytics.privileges', 'select'),
('builder', 'function', 'analytics.missing_privileges(text,text)', 'execute'),
('builder', 'function', 'analytics.open_to_public()', 'execute');

select analytics.close_to_public();
