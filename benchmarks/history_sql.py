"""The statements that draw sessions, by hashes of their numbers.

Parameters: `first` and `last` number; `begin` and `anchor`, between which they are spread;
`sessions`, how many, `origin` being the number of the first; `users`, `symbols`, `tags`,
`query_types`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ARCHIVED", "EXPIRED", "FUNCTIONS", "OPEN"]

# Zipf's law with a blunt tip, by its inverse: rank 1 of the users gets 1.9 % of the sessions, which
# is 47 000 of 90 days at 5 million.
FUNCTIONS: Final = """
create or replace function pg_temp.lot(number bigint, what integer) returns double precision
language sql immutable parallel safe
return ((hashint8extended(number, what) >> 11) & 9007199254740991)::double precision
    / 9007199254740992;

create or replace function pg_temp.rank(lot double precision, ranks integer, blunt double precision)
returns integer
language sql immutable parallel safe
return least(floor(blunt * (power((ranks + blunt) / blunt, lot) - 1))::integer + 1, ranks);

create or replace function pg_temp.session_id(number bigint, created_at timestamptz) returns uuid
language sql immutable parallel safe
return (
    lpad(to_hex(floor(extract(epoch from created_at) * 1000)::bigint), 12, '0')
    || '7' || substr(lpad(to_hex(hashint8extended(number, 1)), 16, '0'), 1, 3)
    || '8' || substr(lpad(to_hex(hashint8extended(number, 1)), 16, '0'), 4, 13)
    || lpad(to_hex(number & 255), 2, '0')
)::uuid;

create or replace function pg_temp.name(prefix text, rank integer) returns text
language sql immutable parallel safe
return prefix || lpad(rank::text, 4, '0')
"""

_DRAWN: Final = """
lots as materialized (
    select
        number,
        pg_temp.lot(number, 2) as moment,
        pg_temp.lot(number, 3) as who,
        pg_temp.lot(number, 4) as kind,
        pg_temp.lot(number, 5) as breadth,
        pg_temp.rank(pg_temp.lot(number, 6), %(symbols)s, 2.0) as symbol_1,
        pg_temp.rank(pg_temp.lot(number, 7), %(symbols)s, 2.0) as symbol_2,
        pg_temp.rank(pg_temp.lot(number, 8), %(symbols)s, 2.0) as symbol_3,
        pg_temp.rank(pg_temp.lot(number, 9), %(symbols)s, 2.0) as symbol_4,
        pg_temp.lot(number, 10) as labels,
        pg_temp.rank(pg_temp.lot(number, 11), %(tags)s, 2.0) as tag_1,
        pg_temp.rank(pg_temp.lot(number, 12), %(tags)s, 2.0) as tag_2,
        pg_temp.rank(pg_temp.lot(number, 13), %(tags)s, 2.0) as tag_3,
        pg_temp.lot(number, 14) as activity,
        pg_temp.rank(pg_temp.lot(number, 15), 8, 1.0) as query_type_1,
        pg_temp.rank(pg_temp.lot(number, 16), 8, 1.0) as query_type_2,
        pg_temp.lot(number, 17) as length,
        pg_temp.lot(number, 18) as ending
    from generate_series(%(first)s::bigint, %(last)s::bigint) as number
),
drawn as materialized (
    select
        number,
        {created_at} as created_at,
        case
            when %(user_id)s::text is not null then %(user_id)s::text
            when who >= 0.05
                then 'user_' || lpad(
                    pg_temp.rank((who - 0.05) / 0.95, %(users)s, 6.1)::text, 5, '0'
                )
        end as user_id,
        case
            when kind < 0.40 then 'equity'
            when kind < 0.65 then 'crypto'
            when kind < 0.80 then 'portfolio'
            when kind < 0.92 then 'comparative'
            else 'macro'
        end as session_type,
        (
            '["' || pg_temp.name('SYM', symbol_1) || '"'
            || case
                when breadth >= 0.45 and symbol_2 <> symbol_1
                    then ',"' || pg_temp.name('SYM', symbol_2) || '"'
                else ''
            end
            || case
                when breadth >= 0.75 and symbol_3 <> symbol_1 and symbol_3 <> symbol_2
                    then ',"' || pg_temp.name('SYM', symbol_3) || '"'
                else ''
            end
            || case
                when breadth >= 0.90 and symbol_4 not in (symbol_1, symbol_2, symbol_3)
                    then ',"' || pg_temp.name('SYM', symbol_4) || '"'
                else ''
            end
            || ']'
        )::jsonb as assets,
        case
            when labels < 0.25 then '[]'
            else
                '["' || pg_temp.name('tag', tag_1) || '"'
                || case
                    when labels >= 0.60 and tag_2 <> tag_1
                        then ',"' || pg_temp.name('tag', tag_2) || '"'
                    else ''
                end
                || case
                    when labels >= 0.85 and tag_3 <> tag_1 and tag_3 <> tag_2
                        then ',"' || pg_temp.name('tag', tag_3) || '"'
                    else ''
                end
                || ']'
        end::jsonb as tags,
        floor(-6 * ln(1 - activity))::integer as queries,
        (%(query_types)s::text [])[query_type_1] as query_type_1,
        (%(query_types)s::text [])[query_type_2] as query_type_2,
        (1500 * -ln(1 - length)) * interval '1 second' as wanted,
        length,
        ending
    from lots
)"""

# Evenly, in the order of the numbers.
_SPREAD: Final = """
        %(begin)s::timestamptz
        + (%(anchor)s::timestamptz - %(begin)s::timestamptz)
        * ((number - %(origin)s + moment) / %(sessions)s)"""

ARCHIVED: Final = (
    "with "
    + _DRAWN.format(created_at=_SPREAD)
    + """,
ended as (
    select
        *,
        pg_temp.session_id(number, created_at) as id,
        -- Nothing is archived after the anchor.
        coalesce(
            %(archived_at)s::timestamptz,
            created_at + least(wanted, (%(anchor)s::timestamptz - created_at) * length)
        ) as archived_at,
        ending < 0.15 and queries < 2 as abandoned
    from drawn
),
stored as (
    insert into sessions (
        id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at, total_queries,
        is_archived, archived_at
    )
    select
        id, user_id, session_type, assets, tags, created_at, created_at + interval '24 hours',
        archived_at, queries, true, archived_at
    from ended
    order by number
)
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries, cache_hit_rate,
    avg_query_time_ms, assets_analyzed, query_type_summary, completed_normally, abandoned, tags,
    recorded_at
)
select
    id, user_id, session_type, created_at,
    least(floor(extract(epoch from archived_at - created_at)), 86400)::integer, queries,
    case when queries = 0 then '0' else round(length::numeric, 6)::text end,
    case when queries > 0 then round((900 * ending)::numeric, 3)::text end,
    assets,
    case
        when queries = 0 then '{}'
        when queries < 3 or query_type_1 = query_type_2
            then jsonb_build_object(query_type_1, queries)
        else jsonb_build_object(query_type_1, queries - queries / 3, query_type_2, queries / 3)
    end,
    not abandoned, abandoned, tags, archived_at
from ended
order by number
"""
)

# Of the last twenty hours. They expire days after the anchor, so that a run sees them all active.
OPEN: Final = (
    "with "
    + _DRAWN.format(
        created_at="%(anchor)s::timestamptz - (1 + 71999 * moment) * interval '1 second'"
    )
    + """
insert into sessions (
    id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at, total_queries
)
select
    pg_temp.session_id(number, created_at), user_id, session_type, assets, tags, created_at,
    case
        when number - %(first)s < %(waiting)s
            then %(anchor)s::timestamptz - length * (%(anchor)s::timestamptz - created_at)
        else %(anchor)s::timestamptz + interval '3 days' + length * interval '4 days'
    end,
    created_at, queries
from drawn
order by number
"""
)

# The history is what archival computes the metrics from.
EXPIRED: Final = (
    "with "  # noqa: S608 - constants
    + _DRAWN.format(created_at=_SPREAD)
    + """
insert into sessions (
    id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at, total_queries,
    query_history
)
select
    pg_temp.session_id(number, created_at), user_id, session_type, assets, tags, created_at,
    created_at + interval '1 second', created_at, 5,
    (
        select jsonb_agg(jsonb_build_object(
            'id', pg_temp.session_id(number * 5 + query, created_at),
            'timestamp', created_at,
            'query_type', case when query <= 3 then query_type_1 else query_type_2 end,
            'parameters', jsonb_build_object('symbol', assets -> 0),
            'result_summary', null,
            'execution_time_ms', round((900 * length)::numeric, 1),
            'cache_hit', query = 2
        ))
        from generate_series(1, 5) as query
    )
from drawn
order by number
"""
)
