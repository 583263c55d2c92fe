"""Adding windows up: what the serving layer holds, plus and minus what it does not."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from psycopg import errors
from psycopg.rows import args_row, tuple_row

from fiml.database import Connection
from fiml.monitoring.reads import took
from fiml.sessions import queries
from fiml.sessions.figures import (
    Counts,
    Figures,
    Names,
    by_frequency,
    count_members,
    count_names,
    cut_below,
    most_frequent,
)
from fiml.sessions.queries import MetaRow, WindowPart
from fiml.sessions.questions import Name, PeriodsQuestion, Question
from fiml.sessions.serving import FoldedCounts, ServingCache

__all__ = [
    "count_in_periods",
    "count_in_user_periods",
    "read_periods",
    "read_user_periods",
    "read_user_window",
    "read_window",
]

# The layer is not there, not this version's, or not for this role: the marts answer.
_NO_LAYER: Final = (
    errors.UndefinedFunction,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.InsufficientPrivilege,
)
_SUMS: Final = (
    "sessions",
    "queries",
    "duration_seconds",
    "abandoned_sessions",
    "archived_sessions",
    "set_aside_values",
    "open_sessions",
)
_NAMED: Final = {
    "session_type": "session_types",
    "asset": "assets",
    "query_type": "query_types",
    "tag": "tags",
}

# Ten milliseconds of them.
_PERIODS_IN_A_ROW: Final = 50


class _UnknownLayer(Exception):  # noqa: N818 - it is no error: the marts answer
    """The entries count what has no name here."""


async def read_window(
    connection: Connection, question: Question, cache: ServingCache
) -> tuple[Figures, MetaRow] | None:
    """Read from the serving layer; `None` where it cannot answer."""
    window = (question.user_id, question.session_type, question.days)
    folded = cache.kept(window)
    parameters = question.parameters(etag=None if folded is None else folded.etag)
    parts = await _ask_layer(connection, args_row(WindowPart), queries.WINDOW, parameters)
    if not parts:
        return None
    head = parts[0]
    if folded is None or folded.etag != head.etag:
        sums, rows = _folded_rows(parts)
        folded = await cache.folded(connection, head.incarnation, head.etag, sums, rows)
        if folded is None:
            return None
        cache.keep(window, folded)
    figures, meta = await _add_up(connection, question, parts, folded)
    return figures, meta


async def read_user_window(
    connection: Connection, question: Question, *, may_be_heavy: bool
) -> tuple[Figures, MetaRow] | None:
    """Read a user's own source rows; `None` for a heavy user, if he may be one."""
    statement = queries.USER_WINDOW[
        question.session_type is not None, may_be_heavy, question.include_meta
    ]
    parts = await _ask_layer(
        connection,
        args_row(WindowPart),
        statement,
        question.parameters(),
        is_needed=not may_be_heavy,
    )
    return await _add_up(connection, question, parts, None) if parts else None


async def read_periods(
    connection: Connection, question: PeriodsQuestion, cache: ServingCache
) -> tuple[list[Figures], MetaRow] | None:
    """Read from the serving layer; `None` where it cannot answer."""
    rows = await _ask_layer_of_periods(connection, question)
    if not rows:
        return None
    if not question.has_names:
        return _sums_of_periods(question, rows, "serving")
    return await _add_up_periods(connection, question, rows, cache)


async def count_in_periods(
    connection: Connection, question: PeriodsQuestion, name: Name, cache: ServingCache
) -> list[int] | None:
    """How often a name counts in each period; `None` where the serving layer cannot answer."""
    rows = await _ask_layer_of_periods(connection, question)
    if not rows:
        return None
    return await _count(connection, question, name, rows, cache)


async def read_user_periods(
    connection: Connection, question: PeriodsQuestion, *, may_be_heavy: bool
) -> tuple[list[Figures], MetaRow] | None:
    """Read a user's own source rows; `None` for a heavy user, if he may be one."""
    rows = await _ask_user_of_periods(connection, question, may_be_heavy=may_be_heavy)
    if not rows:
        return None
    if not question.has_names:
        return _sums_of_periods(question, rows, "source")
    return await _add_up_periods(connection, question, rows, None)


async def count_in_user_periods(
    connection: Connection, question: PeriodsQuestion, name: Name, *, may_be_heavy: bool
) -> list[int] | None:
    """The same from a user's own source rows; `None` for a heavy user, if he may be one."""
    rows = await _ask_user_of_periods(connection, question, may_be_heavy=may_be_heavy)
    if not rows:
        return None
    return await _count(connection, question, name, rows, None)


async def _ask_layer_of_periods(
    connection: Connection, question: PeriodsQuestion
) -> list[tuple[int, WindowPart]]:
    return await _ask_layer(
        connection, args_row(_of_period), queries.PERIODS, question.parameters()
    )


async def _ask_user_of_periods(
    connection: Connection, question: PeriodsQuestion, *, may_be_heavy: bool
) -> list[tuple[int, WindowPart]]:
    statements = queries.USER_PERIODS if question.has_names else queries.USER_PERIODS_OF_SUMS
    return await _ask_layer(
        connection,
        args_row(_of_period),
        statements[question.session_type is not None, may_be_heavy, question.include_meta],
        question.parameters(),
        is_needed=not may_be_heavy,
    )


async def _each_period(
    connection: Connection,
    question: PeriodsQuestion,
    rows: Sequence[tuple[int, WindowPart]],
    cache: ServingCache | None,
) -> AsyncGenerator[tuple[list[WindowPart], FoldedCounts | None], None]:
    """One period after the other, so that the vector of one alone is held.

    With what is folded of it; None where there is no cache, so that nothing is.

    Raises:
        _UnknownLayer: the entries count what has no name here.
    """
    incarnation = next(part.incarnation for _, part in rows if part.part == "window")
    for number, parts in enumerate(_by_period(rows, question)):
        await _let_others_run(number)
        counts = None
        if cache is not None:
            sums, entries = _folded_rows(parts)
            counts = await cache.folded(connection, incarnation, None, sums, entries)
            if counts is None:
                raise _UnknownLayer
        yield parts, counts


async def _count(
    connection: Connection,
    question: PeriodsQuestion,
    name: Name,
    rows: Sequence[tuple[int, WindowPart]],
    cache: ServingCache | None,
) -> list[int] | None:
    found = []
    try:
        async with aclosing(_each_period(connection, question, rows, cache)) as periods:
            async for parts, counts in periods:
                changes = await _changes(connection, name.kind, parts)
                before = 0 if counts is None else counts.count(name.kind, name.name)
                found.append(before + changes[name.name])
    except _UnknownLayer:
        return None
    return found


def _of_period(period: int, *part: Any) -> tuple[int, WindowPart]:
    return period, WindowPart(*part)


async def _ask_layer(
    connection: Connection,
    row_factory: Any,
    statement: str,
    parameters: dict[str, object],
    *,
    is_needed: bool = False,
) -> list[Any]:
    """The rows; none where the layer is not there, unless it has to be."""
    cursor = connection.cursor(binary=True, row_factory=row_factory)
    try:
        await cursor.execute(statement, parameters)
    except _NO_LAYER:
        if connection.info.transaction_status != 0 or is_needed:
            raise
        return []
    return await cursor.fetchall()


async def _let_others_run(number: int) -> None:
    """Between two periods: thousands of them are a second of this process's only thread."""
    if number % _PERIODS_IN_A_ROW == 0:
        await asyncio.sleep(0)


def _by_period(
    rows: Sequence[tuple[int, WindowPart]], question: PeriodsQuestion
) -> list[list[WindowPart]]:
    periods: list[list[WindowPart]] = [[] for _ in range(question.length)]
    for period, part in rows:
        periods[period - 1].append(part)
    return periods


def _folded_rows(
    parts: Sequence[WindowPart],
) -> tuple[dict[str, int], list[tuple[int, bytes]]]:
    folded = [(part.sign, part.entries) for part in parts if part.entries is not None]
    return _sums([part for part in parts if part.entries is not None]), folded


def _sums_of_periods(
    question: PeriodsQuestion, rows: Sequence[tuple[int, WindowPart]], path: str
) -> tuple[list[Figures], MetaRow]:
    sums = [_sums(parts) for parts in _by_period(rows, question)]
    parts = [part for _, part in rows]
    serving_rows = sum(part.part == "folded" for part in parts)
    set_aside_values = sum(its["set_aside_values"] for its in sums)
    took(path)
    return (
        [_figures_of(its, None) for its in sums],
        _meta(parts, path, serving_rows, set_aside_values),
    )


def _sums(parts: Sequence[WindowPart]) -> dict[str, int]:
    return {name: sum(part.sign * (getattr(part, name) or 0) for part in parts) for name in _SUMS}


async def _add_up_periods(
    connection: Connection,
    question: PeriodsQuestion,
    rows: Sequence[tuple[int, WindowPart]],
    cache: ServingCache | None,
) -> tuple[list[Figures], MetaRow] | None:
    figures = []
    set_aside_values = serving_rows = 0
    try:
        async with aclosing(_each_period(connection, question, rows, cache)) as periods:
            async for parts, counts in periods:
                its_figures, its_set_aside = await _figures(connection, question, parts, counts)
                figures.append(its_figures)
                set_aside_values += its_set_aside
                serving_rows += 0 if counts is None else counts.rows
    except _UnknownLayer:
        return None
    path = "source" if cache is None else "serving"
    took(path)
    return figures, _meta([part for _, part in rows], path, serving_rows, set_aside_values)


async def _add_up(
    connection: Connection,
    question: Question,
    parts: Sequence[WindowPart],
    folded: FoldedCounts | None,
) -> tuple[Figures, MetaRow]:
    figures, set_aside_values = await _figures(connection, question, parts, folded)
    took("source" if folded is None else "serving")
    if folded is None:
        return figures, _meta(parts, "source", 0, set_aside_values)
    return figures, _meta(parts, "serving", folded.rows, set_aside_values)


async def _figures(
    connection: Connection,
    question: Question | PeriodsQuestion,
    parts: Sequence[WindowPart],
    folded: FoldedCounts | None,
) -> tuple[Figures, int]:
    """The figures, and how many values were set aside."""
    facts = [part for part in parts if part.entries is None]
    sums = _sums(facts)
    if folded is not None:
        sums = {name: total + folded.sums[name] for name, total in sums.items()}
    changes = {kind: await _changes(connection, kind, facts) for kind in _NAMED}
    names = Names(
        session_types=by_frequency({question.session_type: sums["sessions"]})
        if question.session_type is not None
        else _all("session_type", folded, changes),
        query_types=_all("query_type", folded, changes),
        assets=_most_frequent("asset", folded, changes),
        tags=_most_frequent("tag", folded, changes),
    )
    return _figures_of(sums, names), sums["set_aside_values"]


def _figures_of(sums: dict[str, int], names: Names | None) -> Figures:
    return Figures(
        sessions=sums["sessions"],
        active_sessions=sums["open_sessions"],
        archived_sessions=sums["archived_sessions"],
        queries=sums["queries"],
        duration_seconds=sums["duration_seconds"],
        abandoned_sessions=sums["abandoned_sessions"],
        names=names,
    )


async def _changes(connection: Connection, kind: str, parts: Sequence[WindowPart]) -> Counter[str]:
    """What names of a kind count in facts; a folded part names none there."""
    changes: Counter[str] = Counter()
    for part in parts:
        sign, document = part.sign, getattr(part, _NAMED[kind])
        if document is None:
            continue
        if kind == "session_type":
            # Whatever an application calls a type.
            counted: Counter[str] | None = Counter(json.loads(document))
        elif kind == "query_type":
            counted = count_members(document)
        else:
            counted = count_names(document)
        if counted is None:
            counted = await _counted_there(connection, kind, document)
        if sign == 1:
            changes.update(counted)
        else:
            changes.subtract(counted)
    return changes


async def _counted_there(connection: Connection, kind: str, document: str) -> Counter[str]:
    statement = queries.MEMBERS if kind == "query_type" else queries.NAMES
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    try:
        async with connection.transaction():
            await cursor.execute(statement, {"documents": document})
    except errors.StatementTooComplex:
        # What one session holds may be as deep as a jsonb can be; with the others it is deeper.
        await cursor.execute(statement, {"documents": cut_below(document, levels=2)})
    return Counter(dict(await cursor.fetchall()))


def _all(kind: str, folded: FoldedCounts | None, changes: dict[str, Counter[str]]) -> Counts:
    return by_frequency(changes[kind]) if folded is None else folded.all_with(kind, changes[kind])


def _most_frequent(
    kind: str, folded: FoldedCounts | None, changes: dict[str, Counter[str]]
) -> Counts:
    if folded is None:
        return most_frequent(changes[kind])
    return folded.most_frequent_with(kind, changes[kind])


def _meta(
    parts: Sequence[WindowPart], path: str, serving_rows: int, set_aside_values: int
) -> MetaRow:
    head = next(part for part in parts if part.part == "window")
    rows = Counter[str]()
    for part in parts:
        rows["tail" if part.part == "unseen" else "source"] += part.fact_rows or 0
    if head.as_of is None or head.window_start is None:
        raise ValueError("a window without its time")
    return MetaRow(
        as_of=head.as_of,
        window_start=head.window_start,
        horizon=head.horizon,
        path=path,
        watermark=head.watermark,
        serving_rows=serving_rows,
        mart_rows=0,
        tail_rows=rows["tail"],
        source_rows=rows["source"],
        set_aside_values=set_aside_values,
    )
