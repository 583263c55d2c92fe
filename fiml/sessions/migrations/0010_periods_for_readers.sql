-- Who reads may ask for periods. The list of 0007 names the function, which 0008 makes: when the list was
-- filled there was none of that name, and who reads with a role was answered from the marts.

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    'function' as kind,
    pg_proc.oid::regprocedure::text as object_name,
    'execute' as privilege
from (values ('builder'), ('reader')) as listed (purpose)
inner join pg_proc
    on pg_proc.proname = 'read_periods' and pg_proc.pronamespace = 'analytics'::regnamespace;
