"""A database with writers, builders and a reader, on which histories are played.

Every step is played to its end before the next begins; what interleaves are transactions: writers
keep theirs open across builds, and builds open windows that they fold later, or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exactness.world.builders import Builders
from exactness.world.connected import WRITERS
from exactness.world.readers import Readers
from exactness.world.rows import Metrics, Session
from exactness.world.totals import CONTRADICTIONS, DECODED_TOTALS, heavy_users, of_scopes
from exactness.world.writers import Writers

__all__ = ["WRITERS", "Metrics", "Session", "World"]


class World(Writers, Builders, Readers):
    """One database and everybody who is connected to it."""

    def clear(self) -> None:
        """Back to an installed, empty database."""
        for writer in self.writers:
            writer.rollback()
        with self.builder.transaction():
            for table in (
                "sessions",
                "session_metrics",
                "analytics.session_changes",
                "analytics.build_windows",
                "analytics.quarantine",
                "analytics.erased_users",
                *(f"{mart.schema}.{mart.name}" for mart in self.marts.values()),
            ):
                self.builder.execute(f"delete from {table}")
            self.builder.execute("delete from analytics.user_keys where user_id is not null")
            self.builder.execute("update analytics.settings set horizon = '-infinity'")
            self.builder.execute(
                "update analytics.watermarks set window_id = 0, watermark = null, "
                "previous_watermark = null, is_rebuild_requested = false"
            )
            self.builder.execute("delete from serving.scopes where user_key is not null")
            self.builder.execute("delete from serving.keys where kind <> 'overflow'")
            # Histories are short: who comes back a few times is a heavy user of theirs.
            self.builder.execute(
                "select analytics.set_serving_layout('5 minutes', '1 hour', 8, 3, 2, 1000000)"
            )
        # Keys are given away anew.
        self.cache.clear()
        self.windows = []
        self.openings = []
        self.remember_openings()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """What every mart holds, sorted; of the serving layer, what its rows say."""
        return {
            name: sorted(
                self.builder.execute(
                    DECODED_TOTALS
                    if name == "session_totals"
                    else f"select {', '.join(map(_readable, mart.columns))} from marts.{name}"
                ).fetchall(),
                key=repr,
            )
            for name, mart in self.marts.items()
        }

    def check_incremental_equals_scratch(self) -> None:
        """End every transaction, build, rebuild from the source, and compare row by row."""
        for writer in self.writers:
            writer.rollback()
        with self._patience():
            self.build()
            self.check_totals()
            incremental = self.rows()
            self.rebuild()
            self.check_totals()
            scratch = self.rows()
        for name in self.marts:
            if name == "session_totals":
                # A user who was heavy once stays it until a rebuild.
                users = heavy_users(incremental[name]) & heavy_users(scratch[name])
                assert of_scopes(incremental[name], users) == of_scopes(scratch[name], users)
            else:
                assert incremental[name] == scratch[name], name

    def check_totals(self) -> None:
        """The levels of the serving layer say the same."""
        assert self.builder.execute(CONTRADICTIONS).fetchall() == []

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait for locks: no writer holds one, and autovacuum gives way after a second."""
        self.builder.execute("set lock_timeout = '30s'")
        try:
            yield
        finally:
            self.builder.execute("reset lock_timeout")


def _readable(column: str) -> str:
    # Days may lie outside of Python's years.
    return f"{column}::text" if column == "activity_date" else column
