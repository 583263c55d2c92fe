"""What each part takes on disk."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.bench import Bench

__all__ = ["run"]

_SIZES: Final = """
select
    pg_class.relnamespace::regnamespace::text || '.' || pg_class.relname,
    pg_table_size(pg_class.oid),
    pg_indexes_size(pg_class.oid)
from pg_class
where
    pg_class.relkind = 'r'
    and pg_class.relnamespace::regnamespace::text = any(%s)
order by pg_total_relation_size(pg_class.oid) desc
"""
_SCHEMAS: Final = ("public", "analytics", "marts", "serving")


def run(bench: Bench) -> dict[str, Any]:
    """Bytes of every table and its indexes, and of each schema; the source is the floor."""
    tables = [
        {"table": name, "data_bytes": data, "index_bytes": indexes}
        for name, data, indexes in bench.connection.execute(_SIZES, [list(_SCHEMAS)]).fetchall()
    ]
    schemas = dict.fromkeys(_SCHEMAS, 0)
    for table in tables:
        schemas[table["table"].partition(".")[0]] += table["data_bytes"] + table["index_bytes"]
    return {"tables": tables, "schemas": schemas}
