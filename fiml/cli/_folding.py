"""The process that folds beside one that serves, where there is a login that may fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fiml.cli._connection import names_login
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["folding_beside"]


@contextmanager
def folding_beside(settings: Settings, *, tell: Callable[[str], None]) -> Iterator[None]:
    """Have a process fold every second while the block runs; where it cannot, say why.

    Args:
        settings: with every login in its place; what serves needs a reader's alone.
        tell: receives the line that says why nothing folds.
    """
    from fiml.warehouse.folding import folding

    if not names_login(settings, Purpose.BUILDER):
        tell(
            "Nothing folds: no login of a builder is named. Answers are exact all the same, and "
            "slower; SESSION_ANALYTICS_BUILDER_URL or DATABASE_URL names one, and --no-fold "
            "leaves folding to others."
        )
        yield
        return
    with folding(settings, on_line=tell):
        yield
