"""One SQL statement over the raw rows, through indexes on user, type and time."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import psycopg

from benchmarks.answers import Answer, tally_of
from benchmarks.contenders.base import Contender, Ground
from benchmarks.questions import Question, Scope

__all__ = ["Statement", "answer_by_statement"]

_STATEMENT: Final = """
with hits as (
    select
        session_type, total_queries, duration_seconds, abandoned, assets_analyzed, tags,
        query_type_summary
    from session_metrics
    where created_at >= %(since)s and created_at < %(as_of)s {metrics_filter}
)
select
    'type', session_type, count(*), sum(total_queries), sum(duration_seconds),
    count(*) filter (where abandoned)
from hits
group by session_type
union all
(
    select 'asset', symbol, count(*), 0, 0, 0
    from hits cross join lateral jsonb_array_elements_text(assets_analyzed) as symbol
    group by symbol
    order by count(*) desc, symbol collate "C"
    limit 10
)
union all
(
    select 'tag', tag, count(*), 0, 0, 0
    from hits cross join lateral jsonb_array_elements_text(tags) as tag
    group by tag
    order by count(*) desc, tag collate "C"
    limit 10
)
union all
select 'query_type', key, sum(value::bigint), 0, 0, 0
from hits cross join lateral jsonb_each_text(query_type_summary)
group by key
union all
select 'archived', '', count(*), 0, 0, 0
from sessions
where
    case when is_archived then archived_at end >= %(since)s
    and case when is_archived then archived_at end < %(as_of)s
    {sessions_filter}
union all
select 'active', '', count(*), 0, 0, 0
from sessions
where not is_archived and expires_at > %(as_of)s {sessions_filter}
"""


class Statement(Contender):
    """What a good developer writes without a warehouse."""

    name: ClassVar[str] = "statement"
    title: ClassVar[str] = "one SQL statement over the raw rows"

    def __init__(self, ground: Ground) -> None:
        """Connect; the server's own settings hold, and no deadline."""
        self._connection = psycopg.connect(ground.conninfo, autocommit=True)

    def answer(self, question: Question) -> Answer:
        """One round trip."""
        return answer_by_statement(self._connection, question)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def answer_by_statement(connection: psycopg.Connection[Any], question: Question) -> Answer:
    """The answer from nothing but the raw rows, in the connection's snapshot."""
    parameters = {
        "since": question.since,
        "as_of": question.as_of,
        "user_id": question.scope.user_id,
        "session_type": question.scope.session_type,
    }
    with connection.cursor(binary=True) as cursor:
        cursor.execute(_text(question.scope).encode(), parameters)
        rows = cursor.fetchall()
    return tally_of((row[0], row[1], *map(int, row[2:6])) for row in rows).answer(question)


def _text(scope: Scope) -> str:
    metrics = sessions = ""
    if scope.user_id is not None:
        metrics += " and user_id = %(user_id)s"
        sessions += " and user_id = %(user_id)s"
    if scope.session_type is not None:
        metrics += " and session_type = %(session_type)s"
        sessions += " and type = %(session_type)s"
    return _STATEMENT.format(metrics_filter=metrics, sessions_filter=sessions)
