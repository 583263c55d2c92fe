"""Reading from the marts, or from the source by the same statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from psycopg.rows import class_row

from fiml.database import Connection
from fiml.monitoring.reads import took
from fiml.sessions import queries
from fiml.sessions.figures import Figures, Names, by_frequency
from fiml.sessions.queries import CountRow, MetaRow, StatsRow
from fiml.sessions.questions import Name, PeriodsQuestion, Question

__all__ = ["count_in_marts", "read_marts"]

Row = TypeVar("Row", StatsRow, CountRow)


async def read_marts(
    connection: Connection, question: Question | PeriodsQuestion, *, is_source_only: bool
) -> tuple[list[Figures], MetaRow | None]:
    """Read in one round trip, each mart at its own watermark in one snapshot."""
    of_periods = isinstance(question, PeriodsQuestion)
    periods = question.length if isinstance(question, PeriodsQuestion) else 1
    statements = queries.mart_question(
        has_type=question.session_type is not None, of_periods=of_periods
    )
    parameters = question.parameters(is_source_only=is_source_only)
    is_idle = connection.info.transaction_status == 0
    try:
        async with connection.pipeline():
            if is_idle:
                await connection.execute(queries.BEGIN)
            stats = await _ask(connection, queries.StatsRow, statements.stats, parameters)
            named = [
                await _ask(connection, queries.CountRow, statement, parameters)
                for statement in (
                    (statements.assets, statements.query_types, statements.tags)
                    if question.has_names
                    else ()
                )
            ]
            active = await _ask(connection, queries.ActiveRow, statements.active, parameters)
            meta = (
                await _ask(connection, queries.MetaRow, statements.meta, parameters)
                if question.include_meta
                else None
            )
            if is_idle:
                await connection.execute(queries.COMMIT)
    except BaseException:
        if is_idle and not connection.closed:
            await connection.rollback()
        raise
    stats_rows = _by_period(await stats.fetchall())
    name_rows = [_by_period(await asked.fetchall()) for asked in named]
    present = (await active.fetchall())[0]
    took(present.path)
    figures = [
        Figures(
            sessions=sum(row.sessions for row in stats_rows[period]),
            active_sessions=present.active_sessions,
            archived_sessions=sum(row.archived_sessions for row in stats_rows[period]),
            queries=sum(row.queries for row in stats_rows[period]),
            duration_seconds=sum(row.duration_seconds for row in stats_rows[period]),
            abandoned_sessions=sum(row.abandoned_sessions for row in stats_rows[period]),
            names=_names(stats_rows[period], [rows[period] for rows in name_rows])
            if question.has_names
            else None,
        )
        for period in range(1, periods + 1)
    ]
    return figures, None if meta is None else _total(await meta.fetchall())


async def count_in_marts(
    connection: Connection, question: PeriodsQuestion, name: Name, *, is_source_only: bool
) -> list[int]:
    """How often a name counts in each period."""
    statement = queries.mart_name_question(name.kind, has_type=question.session_type is not None)
    parameters = question.parameters(is_source_only=is_source_only, name=name.name)
    asked = await _ask(connection, queries.CountRow, statement, parameters)
    found = {row.period: row.occurrences for row in await asked.fetchall()}
    return [found.get(period, 0) for period in range(1, question.length + 1)]


async def _ask(
    connection: Connection, row: type[Any], statement: str, parameters: dict[str, object]
) -> Any:
    cursor = connection.cursor(binary=True, row_factory=class_row(row))
    return await cursor.execute(statement, parameters)


def _names(stats: Sequence[StatsRow], counted: Sequence[Sequence[CountRow]]) -> Names:
    assets, query_types, tags = ([(row.name, row.occurrences) for row in rows] for rows in counted)
    return Names(
        session_types=by_frequency((row.session_type, row.sessions) for row in stats),
        query_types=query_types,
        assets=assets,
        tags=tags,
    )


def _by_period(rows: Sequence[Row]) -> dict[int, list[Row]]:
    periods: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        periods[row.period].append(row)
    return periods


def _total(rows: Sequence[MetaRow]) -> MetaRow:
    return replace(
        rows[0],
        mart_rows=sum(row.mart_rows for row in rows),
        tail_rows=sum(row.tail_rows for row in rows),
        source_rows=sum(row.source_rows for row in rows),
        set_aside_values=sum(row.set_aside_values for row in rows),
    )
