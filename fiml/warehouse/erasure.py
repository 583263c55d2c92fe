"""Taking an erased person out of everything derived, without waiting for the next build."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from fiml.settings import Settings
from fiml.warehouse._connection import connected
from fiml.warehouse.fold import fold_together, open_window
from fiml.warehouse.project import load_marts

__all__ = ["fold_erasures"]

_APPLICATION_NAME: Final = "session-analytics-erase"


def fold_erasures(settings: Settings) -> bool:
    """Fold what was erased out of every mart, and forget what nobody else has.

    Returns:
        Whether nothing derived is left of anybody who was erased. Where a mart was never built, or
        somebody else is folding, the next build or fold finishes it.

    Raises:
        BuildError: the project cannot be compiled, or is not there.
        DatabaseError: the database did not answer.
    """
    marts = load_marts(settings)
    with connected(settings, _APPLICATION_NAME) as connection:
        run_id = f"fold {uuid4()}"
        open_window(connection, run_id)
        fold_together(connection, marts, run_id)
        row = connection.execute("select analytics.finish_erasures()").fetchone()
    return bool(row and row[0])
