"""Rows to read, a value to look up, and the shape of an answer."""

from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

USER = "analyst_001@example.com"

META_KEYS = [
    "as_of",
    "window_start",
    "horizon",
    "path",
    "watermark",
    "serving_rows",
    "mart_rows",
    "tail_rows",
    "source_rows",
    "set_aside_values",
]


def value(database: Connection, statement: str, *parameters: object) -> Any:
    row = database.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def kinds(answer: Any) -> Any:
    """The shape of an answer: keys in their order, and the types of what they hold."""
    if isinstance(answer, dict):
        return [(key, kinds(member)) for key, member in answer.items()]
    if isinstance(answer, list):
        return [kinds(member) for member in answer]
    return type(answer)


def write(database: Connection, rows: int = 1, **columns: object) -> None:
    """Metrics of so many sessions; `columns` holds SQL values."""
    given = {
        "user_id": USER,
        "session_type": "equity",
        "duration_seconds": 60,
        "total_queries": 2,
        "assets_analyzed": '["AAPL"]',
        "query_type_summary": '{"price": 2}',
        "tags": '["tech"]',
        **columns,
    }
    database.execute(
        f"insert into session_metrics (session_id, created_at, {', '.join(given)}) "
        f"select gen_random_uuid(), now() - number * interval '1 minute', "
        f"{', '.join(['%s'] * len(given))} from generate_series(1, %s) as number",
        [*given.values(), rows],
    )
