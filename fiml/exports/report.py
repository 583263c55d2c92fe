"""What a report says: a window's figures, those of the window before it, and its periods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

__all__ = [
    "FIGURES",
    "LISTS",
    "Change",
    "Figure",
    "Report",
    "Unit",
    "entries",
    "is_distribution",
]


class Unit(StrEnum):
    """What a figure is measured in."""

    COUNT = "count"
    AVERAGE = "average"
    SECONDS = "seconds"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of the documented dictionary, and how people call it."""

    key: str
    label: str
    unit: Unit


FIGURES: Final = (
    Figure("total_sessions", "Sessions", Unit.COUNT),
    Figure("total_queries", "Queries", Unit.COUNT),
    Figure("avg_queries_per_session", "Queries per session", Unit.AVERAGE),
    Figure("avg_duration_seconds", "Average duration", Unit.SECONDS),
    Figure("abandonment_rate", "Abandoned", Unit.SHARE),
    Figure("archived_sessions", "Archived", Unit.COUNT),
    Figure("active_sessions", "Active now", Unit.COUNT),
)

# The names and their counts, by the key of the documented dictionary.
LISTS: Final = {
    "top_assets": "Assets",
    "popular_tags": "Tags",
    "query_type_distribution": "Query types",
    "session_type_breakdown": "Session types",
}


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a figure differs from that of the window before.

    Attributes:
        before: the figure of the window before.
        percent: of `before`, to one place, half up; None of nothing. Of a share it is the
            difference in percentage points.
    """

    before: float
    percent: Decimal | None


@dataclass(frozen=True, slots=True)
class Report:
    """A window as it was at one instant, and the window before it.

    Attributes:
        figures: as `SessionAnalytics.get_session_stats`.
        series: as `SessionAnalytics.get_session_timeseries`, of the same window, but of each period
            the single figures alone: a report names what is frequent in all of the window.
        before: the figures of the window of the same length that ends where this one begins; None
            where some of its rows were dropped by retention, where there was no session yet when it
            began, or where it has no length.
        series_before: the periods of that window, of the same grain; None where `before` is.
    """

    figures: Mapping[str, Any]
    series: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    series_before: Mapping[str, Any] | None = None

    @property
    def zone(self) -> ZoneInfo:
        """Whose calendar the periods follow."""
        return ZoneInfo(self.series["timezone"])

    @property
    def since(self) -> datetime:
        """When the window begins, in the zone."""
        return self._local("since")

    @property
    def until(self) -> datetime:
        """When it ends, exclusive, in the zone."""
        return self._local("until")

    @property
    def as_of(self) -> datetime:
        """When all of it was read, in the zone."""
        return self._local("as_of")

    def change(self, figure: Figure) -> Change | None:
        """How a figure changed; None where there is nothing to compare."""
        if self.before is None:
            return None
        now, before = self.figures[figure.key], self.before[figure.key]
        if now is None or before is None:
            return None
        # An average of nothing is no average.
        is_average = figure.unit is not Unit.COUNT
        if is_average and not (self.figures["total_sessions"] and self.before["total_sessions"]):
            return None
        return Change(before, _percent(Decimal(str(now)), Decimal(str(before)), figure.unit))

    def _local(self, key: str) -> datetime:
        return datetime.fromisoformat(self.series[key]).astimezone(self.zone)


def is_distribution(key: str) -> bool:
    """Whether a list of LISTS has all names, so that each has a share of the whole."""
    return key in {"query_type_distribution", "session_type_breakdown"}


def entries(figures: Mapping[str, Any], key: str) -> list[tuple[str, int]]:
    """The names and counts of one of LISTS, in their order."""
    found = figures[key]
    if isinstance(found, Mapping):
        return list(found.items())
    return [(name, count) for name, count in (tuple(entry.values()) for entry in found)]


def _percent(now: Decimal, before: Decimal, unit: Unit) -> Decimal | None:
    if unit is Unit.SHARE:
        change = (now - before) * 100
    elif before == 0:
        return None
    else:
        change = (now - before) / before * 100
    return change.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP)
