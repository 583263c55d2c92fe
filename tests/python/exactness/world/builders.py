"""Builders, who open windows that they fold later, or never."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from exactness.world.openings import Openings
from psycopg import errors

from fiml.warehouse.fold import fold, fold_mart, open_window

__all__ = ["Builders"]


class Builders(Openings):
    """Windows, folds, rebuilds, pruning and layouts."""

    def open_window(self) -> None:
        run_id = _new_run()
        self._build(lambda: open_window(self.builder, run_id))
        self.windows.append(run_id)
        self.remember_openings()

    def fold_one(self, window: int, mart: int) -> None:
        """Fold one mart with a window that is open, which need not be the newest."""
        if self.windows:
            run_id = self.windows[-1 - window % len(self.windows)]
            name = sorted(self.marts)[mart % len(self.marts)]
            self._build(lambda: fold_mart(self.builder, self.marts[name], run_id))

    def build(self) -> None:
        run_id = _new_run()
        self._build(lambda: fold(self.builder, self.marts.values(), run_id))

    def request_rebuild(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.request_rebuild()"))

    def rebuild(self) -> None:
        """Make every mart again from the source."""
        self.builder.execute("select analytics.request_rebuild()")
        self.open_window()
        for mart in self.marts.values():
            assert fold_mart(self.builder, mart, self.windows[-1]) == "rebuild"

    def prune(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.prune_changes('0')"))
        # What is pruned is older than the pruning, and needed only to look further back.
        self.openings = []
        self.remember_openings()

    def set_layout(self, **widths: object) -> None:
        """Change the serving layer's widths; the next fold makes it again."""
        self._build(
            lambda: self.builder.execute(
                "select analytics.set_serving_layout("
                + ", ".join(f"{name} => %({name})s" for name in widths)
                + ")",
                widths,
            )
        )

    def merge_early(self) -> None:
        """Let rows of the serving layer be merged after a few entries; by default it takes 187."""
        row = self.builder.execute(
            "select pg_get_functiondef("
            "'serving.is_merge_due(bigint[],bigint[],bigint[])'::regprocedure)"
        ).fetchone()
        assert row is not None
        assert "1500" in row[0]
        self.builder.execute(row[0].replace("1500", "80"))

    def _build(self, step: Any) -> None:
        try:
            step()
        except errors.LockNotAvailable:
            # A writer's transaction holds what the step needs; a real build would wait for it.
            self.builder.rollback()


def _new_run() -> str:
    # A database that outlives this world has the windows of the worlds before.
    return f"run {uuid4()}"
