"""What one period of a series says of a figure."""

from __future__ import annotations

from typing import Any, Final

from fiml.web.figures import Figure

__all__ = ["value_of"]

_AVERAGES: Final = frozenset(
    {"avg_queries_per_session", "avg_duration_seconds", "abandonment_rate"}
)


def value_of(period: dict[str, Any], figure: Figure) -> float | None:
    """The figure of a period; of no session at all there is no average."""
    if figure.key in _AVERAGES and not period["total_sessions"]:
        return None
    value: float = period[figure.key]
    return value
