"""Embedded ClickHouse over MergeTree tables of its own, in the order of time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from benchmarks.answers import Answer, tally_of
from benchmarks.contenders.base import Contender, Ground, optional_module
from benchmarks.contenders.export import metrics_file, sessions_file
from benchmarks.questions import Question

__all__ = ["ClickHouse"]

_TABLES: Final = (
    "create database benchmark engine = Atomic",
    """
    create table benchmark.metrics (
        user_id LowCardinality(String), session_type LowCardinality(String),
        created_at DateTime64(6, 'UTC'), duration_seconds Int32, total_queries Int32,
        abandoned UInt8, assets Array(LowCardinality(String)), tags Array(LowCardinality(String)),
        query_types Map(LowCardinality(String), Int32)
    ) engine = MergeTree order by created_at
    """,
    """
    create table benchmark.sessions (
        user_id LowCardinality(String), session_type LowCardinality(String), is_archived UInt8,
        archived_at DateTime64(6, 'UTC'), expires_at DateTime64(6, 'UTC')
    ) engine = MergeTree order by (is_archived, archived_at)
    """,
)

_LOAD_METRICS: Final = """
insert into benchmark.metrics
select
    user_id, session_type, created_at, duration_seconds, total_queries, abandoned,
    JSONExtract(assets, 'Array(String)'), JSONExtract(tags, 'Array(String)'),
    JSONExtract(query_types, 'Map(String, Int32)')
from file(
    '{path}', CSV,
    'user_id String, session_type String, created_at DateTime64(6, \\'UTC\\'), '
    'duration_seconds Int32, total_queries Int32, abandoned UInt8, assets String, tags String, '
    'query_types String'
)
"""

_LOAD_SESSIONS: Final = """
insert into benchmark.sessions
select *
from file(
    '{path}', CSV,
    'user_id String, session_type String, is_archived UInt8, '
    'archived_at DateTime64(6, \\'UTC\\'), expires_at DateTime64(6, \\'UTC\\')'
)
"""

_STATEMENT: Final = """
select
    'type' as part, toString(session_type) as name, count() as n, sum(total_queries) as queries,
    sum(duration_seconds) as seconds, countIf(abandoned) as abandoned
from benchmark.metrics
where {window}
group by session_type
union all
select * from (
    select 'asset', toString(arrayJoin(assets)) as name, count() as n, 0, 0, 0
    from benchmark.metrics
    where {window}
    group by name
    order by n desc, name
    limit 10
)
union all
select * from (
    select 'tag', toString(arrayJoin(tags)) as name, count() as n, 0, 0, 0
    from benchmark.metrics
    where {window}
    group by name
    order by n desc, name
    limit 10
)
union all
select
    'query_type', toString(tupleElement(pair, 1)) as name, sum(tupleElement(pair, 2)), 0, 0, 0
from benchmark.metrics array join CAST(query_types, 'Array(Tuple(String, Int32))') as pair
where {window}
group by name
union all
select 'archived', '', count(), 0, 0, 0
from benchmark.sessions
where
    is_archived = 1
    and archived_at >= {{since:DateTime64(6, 'UTC')}}
    and archived_at < {{as_of:DateTime64(6, 'UTC')}}
    {filter}
union all
select 'active', '', count(), 0, 0, 0
from benchmark.sessions
where is_archived = 0 and expires_at > {{as_of:DateTime64(6, 'UTC')}} {filter}
"""

_WINDOW: Final = (
    "created_at >= {since:DateTime64(6, 'UTC')} and created_at < {as_of:DateTime64(6, 'UTC')}"
)


class ClickHouse(Contender):
    """chdb: ClickHouse in this process, its tables in a folder, loaded once."""

    name: ClassVar[str] = "clickhouse"
    title: ClassVar[str] = "embedded ClickHouse (chdb), native tables"

    def __init__(self, ground: Ground) -> None:
        """Load both tables."""
        session = optional_module("chdb.session")
        self._session: Any = session.Session(str(ground.folder / "clickhouse"))
        for statement in _TABLES:
            self._session.query(statement)
        for statement, path in (
            (_LOAD_METRICS, metrics_file(ground)),
            (_LOAD_SESSIONS, sessions_file(ground)),
        ):
            self._session.query(_one_string(statement).format(path=path))
        for table in ("metrics", "sessions"):
            self._session.query(f"optimize table benchmark.{table} final")

    def answer(self, question: Question) -> Answer:
        """One statement."""
        scope = question.scope
        parameters: dict[str, Any] = {
            "since": _text(question.since),
            "as_of": _text(question.as_of),
        }
        conditions = ""
        if scope.user_id is not None:
            conditions += " and user_id = {user_id:String}"
            parameters["user_id"] = scope.user_id
        if scope.session_type is not None:
            conditions += " and session_type = {session_type:String}"
            parameters["session_type"] = scope.session_type
        statement = _STATEMENT.format(window=_WINDOW + conditions, filter=conditions)
        result = self._session.query(statement, "JSONCompactEachRow", params=parameters)
        rows = [json.loads(line) for line in str(result).splitlines() if line]
        return tally_of((row[0], row[1], *map(int, row[2:6])) for row in rows).answer(question)

    def close(self) -> None:
        """End the engine."""
        self._session.close()


def _one_string(statement: str) -> str:
    # ClickHouse does not join adjacent literals.
    return statement.replace("'\n    '", "")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
