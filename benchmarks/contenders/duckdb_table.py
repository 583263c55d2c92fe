"""DuckDB over native tables of its own: columns, lists and maps, in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from benchmarks.answers import Answer, tally_of
from benchmarks.contenders.base import Contender, Ground, optional_module
from benchmarks.contenders.export import metrics_file, sessions_file
from benchmarks.questions import Question

__all__ = ["DuckDb"]

_LOAD: Final = (
    """
    create table metrics as
    select
        user_id, session_type, created_at, duration_seconds, total_queries,
        abandoned = 1 as abandoned,
        from_json(assets, '["VARCHAR"]') as assets,
        from_json(tags, '["VARCHAR"]') as tags,
        query_types::json::map(varchar, integer) as query_types
    from read_csv(
        $metrics, header = false, delim = ',', quote = '"', escape = '"', columns = {
            'user_id': 'VARCHAR', 'session_type': 'VARCHAR', 'created_at': 'TIMESTAMP',
            'duration_seconds': 'INTEGER', 'total_queries': 'INTEGER', 'abandoned': 'INTEGER',
            'assets': 'VARCHAR', 'tags': 'VARCHAR', 'query_types': 'VARCHAR'
        }
    )
    """,
    """
    create table sessions as
    select user_id, session_type, is_archived = 1 as is_archived, archived_at, expires_at
    from read_csv(
        $sessions, header = false, delim = ',', quote = '"', escape = '"', columns = {
            'user_id': 'VARCHAR', 'session_type': 'VARCHAR', 'is_archived': 'INTEGER',
            'archived_at': 'TIMESTAMP', 'expires_at': 'TIMESTAMP'
        }
    )
    """,
    "checkpoint",
)

_STATEMENT: Final = """
with hits as materialized (
    select session_type, total_queries, duration_seconds, abandoned, assets, tags, query_types
    from metrics
    where created_at >= $since and created_at < $as_of {filter}
)
select
    'type', session_type, count(*), sum(total_queries)::bigint, sum(duration_seconds)::bigint,
    count(*) filter (where abandoned)
from hits
group by session_type
union all
(
    select 'asset', name, count(*), 0, 0, 0
    from (select unnest(assets) as name from hits)
    group by name
    order by count(*) desc, name
    limit 10
)
union all
(
    select 'tag', name, count(*), 0, 0, 0
    from (select unnest(tags) as name from hits)
    group by name
    order by count(*) desc, name
    limit 10
)
union all
select 'query_type', name, sum(queries)::bigint, 0, 0, 0
from (
    select unnest(map_keys(query_types)) as name, unnest(map_values(query_types)) as queries
    from hits
)
group by name
union all
select 'archived', '', count(*), 0, 0, 0
from sessions
where is_archived and archived_at >= $since and archived_at < $as_of {filter}
union all
select 'active', '', count(*), 0, 0, 0
from sessions
where not is_archived and expires_at > $as_of {filter}
"""


class DuckDb(Contender):
    """A file of its own, loaded once; nothing keeps it up to date."""

    name: ClassVar[str] = "duckdb"
    title: ClassVar[str] = "DuckDB, native tables"

    def __init__(self, ground: Ground) -> None:
        """Load both tables."""
        duckdb = optional_module("duckdb")
        self._connection: Any = duckdb.connect(str(ground.folder / "duckdb.db"))
        files = {"metrics": metrics_file(ground), "sessions": sessions_file(ground)}
        for statement in _LOAD:
            used = {name: str(path) for name, path in files.items() if f"${name}" in statement}
            self._connection.execute(statement, used)

    def answer(self, question: Question) -> Answer:
        """One statement."""
        scope = question.scope
        parameters: dict[str, Any] = {
            "since": _naive(question.since),
            "as_of": _naive(question.as_of),
        }
        conditions = ""
        if scope.user_id is not None:
            conditions += " and user_id = $user_id"
            parameters["user_id"] = scope.user_id
        if scope.session_type is not None:
            conditions += " and session_type = $session_type"
            parameters["session_type"] = scope.session_type
        rows = self._connection.execute(_STATEMENT.format(filter=conditions), parameters).fetchall()
        return tally_of(rows).answer(question)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
