"""Comparing the marts with the source, mart by mart, in one statement and so in one snapshot each.

The statements are the dbt tests tagged `reconciliation`: dbt runs them after a build, this runs the
same text and says what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.rows import dict_row
from psycopg.types.datetime import DateLoader

from fiml.settings import Settings
from fiml.warehouse._connection import connected
from fiml.warehouse.project import Reconciliation, compiled

__all__ = ["MOST_DRIFTS", "Drift", "reconcile"]

# A mart that is wrong everywhere needs a rebuild, not a list.
MOST_DRIFTS: Final = 1000

_EXPECTED: Final = "expected_"
_FOUND: Final = "found_"


@dataclass(frozen=True, slots=True)
class Drift:
    """A row of a mart that is not what the source says.

    Attributes:
        mart: the mart's name.
        activity_date: the UTC day; of those outside of Python's years, its first or last one.
        key: the row's other key columns.
        expected: what the source rows add up to, for the columns that differ.
        found: what the mart and the feed rows it has not seen add up to, for the same columns.
    """

    mart: str
    activity_date: date
    key: dict[str, str]
    expected: dict[str, int]
    found: dict[str, int]

    def __str__(self) -> str:
        """One line: mart, day, key and each figure."""
        key = ", ".join(f"{name} {value}" for name, value in self.key.items())
        figures = ", ".join(
            f"{name} {self.found[name]} instead of {self.expected[name]}" for name in self.expected
        )
        return f"{self.mart} on {self.activity_date} ({key}): {figures}"


def reconcile(settings: Settings, *, all_days: bool = False) -> list[Drift]:
    """Compare every mart with the source and return what differs; nothing should.

    Runs beside writers and builds, and changes nothing.

    Args:
        settings: where the database and the project are.
        all_days: compare every day from the retention horizon on; otherwise those that the last
            half hour touched.

    Returns:
        At most `MOST_DRIFTS` of each mart, by mart and day.

    Raises:
        BuildError: the project cannot be compiled.
        SchemaVersionError: the database is not migrated, or by another version.
        DatabaseError: the database did not answer.
    """
    tests = compiled(settings).reconciliations
    with connected(settings, "session-analytics-reconcile") as connection:
        return [drift for test in tests for drift in _compare(connection, test, all_days=all_days)]


def _compare(
    connection: psycopg.Connection[Any], test: Reconciliation, *, all_days: bool
) -> list[Drift]:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.adapters.register_loader("date", _DayLoader)
        cursor.execute("set transaction read only")
        cursor.execute(
            "select set_config('jit', 'off', true), set_config('TimeZone', 'UTC', true), "
            "set_config('analytics.reconcile_every_day', %s, true)",
            ["on" if all_days else "off"],
        )
        cursor.execute(_statement(test))
        return [_drift(test, row) for row in cursor.fetchall()]


class _DayLoader(DateLoader):
    """Reads any day that PostgreSQL knows."""

    def load(self, data: Buffer) -> date:
        """Return the day, or the nearest one that Python knows."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return date.min if bytes(data).endswith(b"BC") else date.max


def _statement(test: Reconciliation) -> sql.Composed:
    # dbt's own text, which holds no data; psycopg's types want to be told so.
    return sql.SQL("select * from ({}\n) as drifts order by {} limit {}").format(
        sql.SQL(test.compiled_code),
        sql.SQL(", ").join(map(sql.Identifier, test.keys)),
        sql.Literal(MOST_DRIFTS),
    )


def _drift(test: Reconciliation, row: Mapping[str, Any]) -> Drift:
    sums = [name.removeprefix(_EXPECTED) for name in row if name.startswith(_EXPECTED)]
    differing = [name for name in sums if row[_EXPECTED + name] != row[_FOUND + name]]
    return Drift(
        mart=test.mart,
        activity_date=row["activity_date"],
        key={name: str(row[name]) for name in _other_keys(test.keys)},
        expected={name: int(row[_EXPECTED + name]) for name in differing},
        found={name: int(row[_FOUND + name]) for name in differing},
    )


def _other_keys(keys: Sequence[str]) -> list[str]:
    return [name for name in keys if name != "activity_date"]
