"""What the periods of a series say of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fiml.web.figures import Figure

__all__ = ["PeriodFigure", "figures_of"]

_AVERAGES: Final = frozenset(
    {"avg_queries_per_session", "avg_duration_seconds", "abandonment_rate"}
)


@dataclass(frozen=True, slots=True)
class PeriodFigure:
    """A figure of one period.

    Attributes:
        value: the number itself.
        is_drawn: whether a line goes through it: of no session at all there is no average.
    """

    value: float
    is_drawn: bool = True

    @property
    def drawn(self) -> float | None:
        """What a line goes through; None for a gap."""
        return self.value if self.is_drawn else None


def figures_of(
    series: dict[str, Any], figure: Figure, counts: Sequence[int] | None = None
) -> list[PeriodFigure]:
    """The figure of each period; `counts` are those of a name, which no series holds."""
    if counts is not None:
        return [PeriodFigure(count) for count in counts]
    is_average = figure.key in _AVERAGES
    return [
        PeriodFigure(period[figure.key], bool(period["total_sessions"]) or not is_average)
        for period in series["periods"]
    ]
