"""ISO weeks of a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from fiml.alerts.model import Report

__all__ = ["Week", "latest_due"]

_LABEL: Final = re.compile(r"([0-9]{4})-W([0-9]{2})")
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Week:
    """Monday to Sunday."""

    monday: date
    timezone: ZoneInfo

    @classmethod
    def named(cls, label: str, timezone: ZoneInfo) -> Week:
        """The week of a label such as `2026-W07`.

        Raises:
            ValueError: there is no such week.
        """
        found = _LABEL.fullmatch(label)
        if found is None:
            raise ValueError(label)
        return cls(date.fromisocalendar(int(found[1]), int(found[2]), 1), timezone)

    @property
    def label(self) -> str:
        """Year and number."""
        return f"{self.monday:%G-W%V}"

    @property
    def since(self) -> datetime:
        """The first moment."""
        return _instant(self.monday, time(), self.timezone)

    @property
    def until(self) -> datetime:
        """The first moment after it."""
        return _instant(self.monday + _WEEK, time(), self.timezone)

    @property
    def next(self) -> Week:
        """The week after it."""
        return Week(self.monday + _WEEK, self.timezone)

    def due(self, at: time) -> datetime:
        """When its report is due: on the Monday after it."""
        return _instant(self.monday + _WEEK, at, self.timezone)


def latest_due(report: Report, now: datetime) -> Week:
    """The latest week whose report is due: on the Monday after it, at the report's hour."""
    today = now.astimezone(report.timezone).date()
    monday = today - timedelta(days=today.weekday())
    if now < _instant(monday, report.at, report.timezone):
        monday -= _WEEK
    return Week(monday - _WEEK, report.timezone)


def _instant(day: date, at: time, timezone: ZoneInfo) -> datetime:
    # Through UTC: of two instants in one zone, Python compares what clocks show.
    return datetime.combine(day, at, timezone).astimezone(UTC)
