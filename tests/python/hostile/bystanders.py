"""Users whose rows nobody asks for, and whether anything was done to them or to what is defined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from hostile.strings import is_storable

__all__ = ["OTHERS", "Connection", "add_users", "unharmed"]

Connection = psycopg.Connection[tuple[Any, ...]]

# Users whose rows nobody asks for: each differs from a hostile string by little.
OTHERS = ("ann", "bob", "\N{GREEK SMALL LETTER SIGMA}", "Ann", "an", "x" * 254)

# Everything that is defined; rows, statistics and sequences come and go.
CATALOGUE = """
select 'relation', c.oid::regclass::text, c.relkind::text, concat(c.relacl, c.relowner)
from pg_class as c where c.relnamespace = any(%(schemas)s::regnamespace[]) and c.relkind <> 't'
union all
select 'column', attrelid::regclass::text, attname::text, concat(atttypid::regtype, attnotnull)
from pg_attribute inner join pg_class as c on c.oid = attrelid
where c.relnamespace = any(%(schemas)s::regnamespace[]) and not attisdropped
union all
select 'function', oid::regprocedure::text, prosrc, concat(proacl, prosecdef)
from pg_proc where pronamespace = any(%(schemas)s::regnamespace[])
union all
select 'trigger', tgrelid::regclass::text, tgname::text, concat(pg_get_triggerdef(oid), tgenabled)
from pg_trigger
union all
select 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
from pg_constraint where connamespace = any(%(schemas)s::regnamespace[])
union all
select 'schema', nspname::text, nspacl::text, nspowner::text
from pg_namespace where nspname !~ '^pg_(toast_)?temp'
union all
select 'setting', setdatabase::text, setrole::text, setconfig::text
from pg_db_role_setting
inner join pg_database on pg_database.oid = setdatabase and datname = current_database()
order by 1, 2, 3, 4
"""
SCHEMAS = ["public", "analytics", "marts", "serving"]


def fingerprint(database: Connection) -> list[tuple[Any, ...]]:
    return database.execute(CATALOGUE, {"schemas": SCHEMAS}).fetchall()


def rows_of_others(database: Connection) -> list[tuple[Any, ...]]:
    return database.execute(
        "select 'sessions', to_jsonb(sessions)::text from sessions where user_id = any(%(users)s) "
        "union all select 'session_metrics', to_jsonb(session_metrics)::text from session_metrics "
        "where user_id = any(%(users)s) order by 1, 2",
        {"users": list(OTHERS)},
    ).fetchall()


@contextmanager
def unharmed(database: Connection) -> Iterator[None]:
    """Nothing is defined otherwise afterwards, and no other user's row has changed."""
    before = fingerprint(database), rows_of_others(database)
    assert len(before[0]) > 300
    assert len(before[1]) == 5 * len(OTHERS)
    yield
    after = fingerprint(database), rows_of_others(database)
    assert after == before


def add_users(database: Connection, texts: Sequence[str]) -> None:
    """Of each string that can be a user there is one session with metrics."""
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, assets_analyzed) select gen_random_uuid(), user_id, 'macro', "
        "now() - interval '1 h', 1, jsonb_build_array(user_id) "
        "from unnest(%s::text[]) as user_id",
        [[text for text in texts if is_storable(text) and text not in OTHERS]],
    )
