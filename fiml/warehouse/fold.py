"""Folding with the compiled SQL of the dbt models, without dbt.

dbt is the one author of the SQL; this runs the same text in the same order as the materialization
`fold` (macros/fold.sql) does: lock the watermark, add the delta, drop what became zero, move the
watermark, in one transaction for each mart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from fiml.warehouse.project import Mart

__all__ = ["fold", "fold_mart", "fold_statements", "open_window"]


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


def fold_mart(connection: psycopg.Connection[Any], mart: Mart, run_id: str) -> str:
    """Fold one mart up to the window of the run, in a transaction of its own.

    Returns "fold", "rebuild", or "nothing to fold" where a later window was folded already.

    Raises:
        psycopg.Error: the server refused a statement; nothing was changed.
    """
    with connection.transaction():
        row = connection.execute(
            "select analytics.begin_fold(%s, %s)", [mart.name, run_id]
        ).fetchone()
        for statement in fold_statements(mart):
            connection.execute(statement.encode())
        connection.execute("select analytics.end_fold(%s)", [mart.name])
    return str(row[0]) if row else ""


def fold_statements(mart: Mart) -> tuple[str, str]:
    """What the materialization runs between the two: add the delta, drop what became zero.

    Names come from the project's own models, never from data.
    """
    sums = [column for column in mart.columns if column not in mart.unique_key]
    columns = ", ".join(mart.columns)
    updates = ", ".join(f"{name} = folded.{name} + excluded.{name}" for name in sums)
    add = (
        f"insert into marts.{mart.name} as folded ({columns})\n"
        f"select {columns} from (\n{mart.compiled_code}\n) as delta\n"
        f"on conflict ({', '.join(mart.unique_key)}) do update set {updates}"
    )
    drop = (
        f"delete from marts.{mart.name} "  # noqa: S608 - see above
        f"where {' and '.join(f'{name} = 0' for name in sums)}"
    )
    return add, drop
