"""Folding with the compiled SQL of the dbt models, without dbt.

dbt is the one author of the SQL; this runs the same text in the same order as the materialization
`fold` (macros/fold.sql) does: lock the watermark, add the delta, drop what became zero, move the
watermark, in one transaction for each mart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import psycopg

from fiml.warehouse.project import Mart

__all__ = ["fold", "fold_mart", "fold_statements", "fold_together", "open_window"]

# The planner cannot know how little is unseen: it expects a third of the feed.
_FOR_FEW_ROWS: Final = """
select set_config('seq_page_cost', '10', true), set_config('random_page_cost', '1', true)
"""
_LOCK_FREE_ONES: Final = """
select mart_states.mart
from analytics.mart_states
where
    mart_states.mart = any(%s)
    and mart_states.watermark is not null
    and not mart_states.is_rebuild_requested
order by mart_states.mart
for update skip locked
"""


def open_window(connection: psycopg.Connection[Any], run_id: str) -> int:
    """Open the window of a run, or find it, and return its number.

    Raises:
        psycopg.Error: the server refused, or the connection is not in READ COMMITTED.
    """
    row = connection.execute("select analytics.open_window(%s)", [run_id]).fetchone()
    if row is None:
        raise psycopg.DataError("open_window returned nothing")
    return int(row[0])


def fold(connection: psycopg.Connection[Any], marts: Iterable[Mart], run_id: str) -> None:
    """Open a window and fold every mart up to it.

    Raises:
        psycopg.Error: the server refused a statement; marts folded before it stay folded.
    """
    open_window(connection, run_id)
    for mart in marts:
        fold_mart(connection, mart, run_id)


def fold_mart(
    connection: psycopg.Connection[Any], mart: Mart, run_id: str, *, prepare: bool | None = None
) -> str:
    """Fold one mart up to the window of the run, in a transaction of its own.

    Args:
        connection: in autocommit, or in a transaction that this becomes a part of.
        mart: what to fold.
        run_id: a run that opened a window.
        prepare: whether to take the plans of folds before; None leaves it to the connection.

    Returns:
        "fold", "rebuild", or "nothing to fold" where a later window was folded already.

    Raises:
        psycopg.Error: the server refused a statement; nothing was changed.
    """
    with connection.transaction():
        row = connection.execute(
            "select analytics.begin_fold(%s, %s)", [mart.name, run_id]
        ).fetchone()
        for starts_at, ends_before in connection.execute(
            "select starts_at::text, ends_before::text from analytics.fold_ranges()"
        ).fetchall():
            connection.execute("select analytics.begin_range(%s, %s)", [starts_at, ends_before])
            for statement in fold_statements(mart):
                connection.execute(statement.encode(), prepare=prepare)
        connection.execute("select analytics.end_fold(%s)", [mart.name])
    return str(row[0]) if row else ""


def fold_together(
    connection: psycopg.Connection[Any], marts: Iterable[Mart], run_id: str
) -> frozenset[str]:
    """Fold several marts up to the window of the run, in one transaction, and return which.

    For few rows: all these marts are locked for as long as it takes, and the plans are kept from
    one call to the next. Never waits for another fold: a mart whose watermark somebody else holds
    is left out, and so is one that would start from scratch.

    Raises:
        psycopg.Error: the server refused a statement; nothing was changed.
    """
    by_name = {mart.name: mart for mart in marts}
    with connection.transaction():
        connection.execute(_FOR_FEW_ROWS, prepare=True)
        names = connection.execute(_LOCK_FREE_ONES, [list(by_name)], prepare=True).fetchall()
        with connection.pipeline():
            for (name,) in names:
                connection.execute("select analytics.begin_fold(%s, %s)", [name, run_id])
                for statement in fold_statements(by_name[name]):
                    connection.execute(statement.encode(), prepare=True)
                connection.execute("select analytics.end_fold(%s)", [name])
    return frozenset(name for (name,) in names)


def fold_statements(mart: Mart) -> tuple[str, ...]:
    """What the materialization runs between the two: add the delta, drop what became zero.

    Names come from the project's own models, never from data.
    """
    table = f"{mart.schema}.{mart.name}"
    values = [column for column in mart.columns if column not in mart.unique_key]
    sums = [column for column in values if column not in mart.on_conflict]
    columns = ", ".join(mart.columns)
    updates = ", ".join(
        f"{name} = {mart.on_conflict.get(name, f'folded.{name} + excluded.{name}')}"
        for name in values
    )
    add = (
        f"insert into {table} as folded ({columns})\n"
        f"select {columns} from (\n{mart.compiled_code}\n) as delta\n"
        f"on conflict ({', '.join(mart.unique_key)}) do update set {updates}"
    )
    # A mart of more than sums says itself what a row without anything means.
    if mart.on_conflict:
        return (add,)
    drop = (
        f"delete from {table} "  # noqa: S608 - see above
        f"where {' and '.join(f'{name} = 0' for name in sums)}"
    )
    return add, drop
