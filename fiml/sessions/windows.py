"""Adding a window up: what the serving layer holds, plus and minus what it does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import errors
from psycopg.rows import args_row, tuple_row

from fiml.database import Connection
from fiml.sessions import queries
from fiml.sessions.figures import (
    Counts,
    Figures,
    by_frequency,
    count_members,
    count_names,
    cut_below,
    most_frequent,
)
from fiml.sessions.queries import MetaRow, WindowPart
from fiml.sessions.serving import FoldedCounts, ServingCache

__all__ = ["Question", "read_user_window", "read_window"]

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


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, in arguments that were checked; as a mapping, the statements' parameters."""

    user_id: str | None
    session_type: str | None
    days: int
    as_of: object = None
    include_meta: bool = False

    def parameters(self, **others: object) -> dict[str, object]:
        """For a statement of fiml.sessions.queries."""
        return {
            "user_id": self.user_id,
            "session_type": self.session_type,
            "days": self.days,
            "as_of": self.as_of,
            "include_meta": self.include_meta,
            **others,
        }


async def read_window(
    connection: Connection, question: Question, cache: ServingCache
) -> tuple[Figures, MetaRow] | None:
    """Read from the serving layer; `None` where it cannot answer."""
    window = (question.user_id, question.session_type, question.days)
    folded = cache.kept(window)
    parameters = question.parameters(etag=None if folded is None else folded.etag)
    try:
        parts = await _ask(connection, queries.WINDOW, parameters)
    except _NO_LAYER:
        if connection.info.transaction_status != 0:
            raise
        return None
    if not parts:
        return None
    head = parts[0]
    if folded is None or folded.etag != head.etag:
        rows = [(part.sign, part.entries) for part in parts if part.entries is not None]
        sums = _sums([part for part in parts if part.entries is not None])
        folded = await cache.folded(connection, window, head.incarnation, head.etag, sums, rows)
        if folded is None:
            return None
    return await _add_up(connection, question, parts, folded)


async def read_user_window(
    connection: Connection, question: Question, *, may_be_heavy: bool
) -> tuple[Figures, MetaRow] | None:
    """Read a user's own source rows; `None` for a heavy user, if he may be one."""
    statement = queries.USER_WINDOW[
        question.session_type is not None, may_be_heavy, question.include_meta
    ]
    try:
        parts = await _ask(connection, statement, question.parameters())
    except _NO_LAYER:
        if connection.info.transaction_status != 0 or not may_be_heavy:
            raise
        return None
    return await _add_up(connection, question, parts, None) if parts else None


async def _ask(
    connection: Connection, statement: str, parameters: dict[str, object]
) -> list[WindowPart]:
    cursor = connection.cursor(binary=True, row_factory=args_row(WindowPart))
    await cursor.execute(statement, parameters)
    return await cursor.fetchall()


def _sums(parts: Sequence[WindowPart]) -> dict[str, int]:
    return {name: sum(part.sign * (getattr(part, name) or 0) for part in parts) for name in _SUMS}


async def _add_up(
    connection: Connection,
    question: Question,
    parts: Sequence[WindowPart],
    folded: FoldedCounts | None,
) -> tuple[Figures, MetaRow]:
    facts = [part for part in parts if part.entries is None]
    sums = _sums(facts)
    if folded is not None:
        sums = {name: total + folded.sums[name] for name, total in sums.items()}
    changes = {
        kind: await _changes(
            connection, kind, [(part.sign, getattr(part, column)) for part in facts]
        )
        for kind, column in _NAMED.items()
    }
    figures = Figures(
        sessions=sums["sessions"],
        active_sessions=sums["open_sessions"],
        archived_sessions=sums["archived_sessions"],
        queries=sums["queries"],
        duration_seconds=sums["duration_seconds"],
        abandoned_sessions=sums["abandoned_sessions"],
        session_types=by_frequency({question.session_type: sums["sessions"]})
        if question.session_type is not None
        else _all("session_type", folded, changes),
        query_types=_all("query_type", folded, changes),
        assets=_most_frequent("asset", folded, changes),
        tags=_most_frequent("tag", folded, changes),
    )
    return figures, _meta(parts, folded, sums["set_aside_values"])


async def _changes(
    connection: Connection, kind: str, documents: Sequence[tuple[int, str | None]]
) -> Counter[str]:
    changes: Counter[str] = Counter()
    for sign, document in documents:
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
    parts: Sequence[WindowPart], folded: FoldedCounts | None, set_aside_values: int
) -> MetaRow:
    head = parts[0]
    rows = Counter[str]()
    for part in parts:
        rows["tail" if part.part == "unseen" else "source"] += part.fact_rows or 0
    if head.as_of is None or head.window_start is None:
        raise ValueError("a window without its time")
    return MetaRow(
        as_of=head.as_of,
        window_start=head.window_start,
        horizon=head.horizon,
        path="source" if folded is None else "serving",
        watermark=head.watermark,
        serving_rows=0 if folded is None else folded.rows,
        mart_rows=0,
        tail_rows=rows["tail"],
        source_rows=rows["source"],
        set_aside_values=set_aside_values,
    )
