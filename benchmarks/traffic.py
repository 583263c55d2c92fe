"""Sessions that end, so many a second: `python -m benchmarks.traffic`, as a child of a run.

Each is written open and expired, and archived by a statement of its own, as applications do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from threading import Event
from time import monotonic
from typing import Any, Final

import psycopg

from benchmarks.children import serve
from benchmarks.generator import add_expired

__all__ = ["ARCHIVE_ONE"]

ARCHIVE_ONE: Final = "select analytics.archive_session(%s)"
# Sessions begin while others end: a second's worth is written at once.
_EXPIRED: Final = """
select id from sessions
where not is_archived and expires_at <= now()
order by expires_at desc
limit %s
"""


def _work(task: dict[str, Any], ended: Event) -> Mapping[str, Any]:
    rate, first = int(task["per_second"]), int(task["first_number"])
    archived = 0
    with psycopg.connect(task["conninfo"], autocommit=True) as connection:
        began = monotonic()
        while not ended.is_set():
            now = datetime.now(UTC)
            numbers = range(first + archived, first + archived + rate)
            add_expired(
                connection, numbers, now - timedelta(minutes=20), now - timedelta(seconds=2)
            )
            for row in connection.execute(_EXPIRED, [rate]).fetchall():
                connection.execute(ARCHIVE_ONE, row)
                archived += 1
                # Evenly, and never ahead of the clock.
                if ended.wait(max(0.0, began + archived / rate - monotonic())):
                    break
        seconds = monotonic() - began
    return {"archived": archived, "per_second": round(archived / seconds, 1)}


if __name__ == "__main__":
    serve(_work)
