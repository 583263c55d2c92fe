{{ config(materialized="view") }}

with session_stats as (

    select * from {{ ref("daily_session_stats") }}

),

-- As fiml/sessions/session_types.py has them.
known as (

    select
        listed.session_type,
        listed.session_type_name
    from (
        values
        ('equity', 'Equity'),
        ('crypto', 'Crypto'),
        ('portfolio', 'Portfolio'),
        ('comparative', 'Comparative'),
        ('macro', 'Macro')
    ) as listed (session_type, session_type_name)

),

stored as (

    select distinct session_stats.session_type
    from session_stats

)

select
    coalesce(known.session_type, stored.session_type) as session_type,
    -- A name that says so: 'Equity' is stored by no application that we know, and is not 'equity'.
    coalesce(known.session_type_name, stored.session_type || ' (unknown)') as session_type_name,
    known.session_type is not null as is_known
from known
full join stored on known.session_type = stored.session_type
