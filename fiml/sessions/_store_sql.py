"""Every statement of the session store, by the name of what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from psycopg import sql

__all__ = ["Statements"]

# Times beyond Python's years are brought to its first or last moment. A history is read element by
# element, as text: what one of them holds cannot keep the others from being read.
_SUMMARY_COLUMNS: Final = """
    sessions.id,
    sessions.user_id::text as user_id,
    sessions.type::text as type,
    sessions.assets::text as assets,
    sessions.tags::text as tags,
    {created_at} as created_at,
    {expires_at} as expires_at,
    {last_accessed_at} as last_accessed_at,
    sessions.is_archived,
    {archived_at} as archived_at,
    greatest(
        sessions.total_queries,
        (select count(*)::integer from analytics.history_queries(sessions.query_history)),
        0
    ) as total_queries
"""
_SESSION_COLUMNS: Final = """
    {summary_columns},
    (sessions.state -> 'context')::text as context,
    (sessions.state -> 'preferences')::text as preferences,
    (sessions.state -> 'intermediate_results')::text as intermediate_results,
    (sessions.state -> 'metadata')::text as metadata,
    array(
        select history.element::text
        from jsonb_array_elements(
            case jsonb_typeof(sessions.query_history)
                when 'array' then sessions.query_history
                else '[]'
            end
        ) with ordinality as history (element, position)
        order by history.position
    ) as query_history
"""

# Doing it again after a broken connection finds the row that the first attempt may have written.
_CREATE: Final = """
insert into {sessions} as sessions (
    id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at
)
values (
    %(session_id)s,
    %(user_id)s,
    %(type)s,
    %(assets)s::jsonb,
    %(tags)s::jsonb,
    transaction_timestamp(),
    transaction_timestamp() + make_interval(secs => %(ttl_seconds)s),
    transaction_timestamp()
)
on conflict (id) do update set id = sessions.id
returning {session_columns}
"""

_GET: Final = """
select {session_columns} from {sessions} as sessions where sessions.id = %(session_id)s
"""
_LOCK: Final = _GET + "for update"

# What another program left in place of a history is kept, as an element that is no query.
_HISTORY: Final = """
    case jsonb_typeof(sessions.query_history)
        when 'array' then sessions.query_history
        when 'null' then '[]'
        else jsonb_build_array(jsonb_build_array(sessions.query_history))
    end
"""

_UPDATE: Final = (
    """
update {sessions} as sessions
set
    user_id = %(user_id)s,
    type = %(type)s,
    assets = coalesce(%(assets)s::jsonb, sessions.assets),
    tags = coalesce(%(tags)s::jsonb, sessions.tags),
    expires_at = greatest(sessions.expires_at, %(expires_at)s),
    last_accessed_at = transaction_timestamp(),
    state = case
        when %(state)s::jsonb = '{{}}' then sessions.state
        when jsonb_typeof(sessions.state) = 'object' then sessions.state || %(state)s::jsonb
        else %(state)s::jsonb
    end,
    query_history = case
        when %(added_queries)s = 0 then sessions.query_history
        else """
    + _HISTORY
    + """ || %(queries)s::jsonb
    end,
    total_queries = least(
        greatest(sessions.total_queries, 0)::bigint + %(added_queries)s, 2147483647
    )::integer
where sessions.id = %(session_id)s
returning {session_columns}
"""
)

# A record that is stored already is not stored again, so that an attempt can be repeated.
_ADD_QUERY: Final = (
    """
update {sessions} as sessions
set
    query_history = """
    + _HISTORY
    + """ || %(query)s::jsonb,
    total_queries = least(greatest(sessions.total_queries, 0)::bigint + 1, 2147483647)::integer,
    last_accessed_at = transaction_timestamp()
where
    sessions.id = %(session_id)s
    and not sessions.is_archived
    and not sessions.query_history @> %(same_query)s::jsonb
returning true as is_added
"""
)

_HAS_QUERY: Final = """
select sessions.is_archived, sessions.query_history @> %(same_query)s::jsonb as has_query
from {sessions} as sessions
where sessions.id = %(session_id)s
"""

_EXTEND: Final = """
update {sessions} as sessions
set
    expires_at = greatest(sessions.expires_at, transaction_timestamp())
    + make_interval(secs => %(seconds)s),
    last_accessed_at = transaction_timestamp()
where sessions.id = %(session_id)s and not sessions.is_archived
returning {session_columns}
"""

_IS_ARCHIVED: Final = """
select sessions.is_archived from {sessions} as sessions where sessions.id = %(session_id)s
"""

_DELETE: Final = "select analytics.delete_session(%(session_id)s) as is_deleted"

_ARCHIVE: Final = "select analytics.archive_session(%(session_id)s) as is_archived"

_LIST: Final = """
select {summary_columns}
from {sessions} as sessions
where
    sessions.user_id = %(user_id)s
    and (%(include_archived)s or not sessions.is_archived)
order by sessions.created_at desc, sessions.id desc
limit %(limit)s
"""


def _clamped(column: str) -> sql.Composable:
    # `greatest` would take a missing time for the first moment.
    return sql.SQL(
        "case when {column} is not null then "
        "least(greatest({column}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') end"
    ).format(column=sql.Identifier("sessions", column))


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements, for one source schema."""

    create: bytes
    get: bytes
    lock: bytes
    update: bytes
    add_query: bytes
    has_query: bytes
    extend: bytes
    is_archived: bytes
    delete: bytes
    archive: bytes
    list: bytes

    @classmethod
    def for_schema(cls, source_schema: str) -> Self:
        """The statements over `sessions` of a schema."""
        times = {
            name: _clamped(name)
            for name in ("created_at", "expires_at", "last_accessed_at", "archived_at")
        }
        summary_columns = sql.SQL(_SUMMARY_COLUMNS).format(**times)
        names = {
            "sessions": sql.Identifier(source_schema, "sessions"),
            "summary_columns": summary_columns,
            "session_columns": sql.SQL(_SESSION_COLUMNS).format(summary_columns=summary_columns),
        }

        def statement(template: str) -> bytes:
            return sql.SQL(template).format(**names).as_bytes()

        return cls(
            create=statement(_CREATE),
            get=statement(_GET),
            lock=statement(_LOCK),
            update=statement(_UPDATE),
            add_query=statement(_ADD_QUERY),
            has_query=statement(_HAS_QUERY),
            extend=statement(_EXTEND),
            is_archived=statement(_IS_ARCHIVED),
            delete=statement(_DELETE),
            archive=statement(_ARCHIVE),
            list=statement(_LIST),
        )
