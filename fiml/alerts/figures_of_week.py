"""What a weekly report says: the report of an export, in the words of a letter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from fiml.alerts import model
from fiml.alerts.weeks import Week
from fiml.database import Database
from fiml.exports.exporting import report_of
from fiml.exports.reading import Subject
from fiml.exports.report import FIGURES, LISTS, Report, entries
from fiml.exports.wording import change_of, period_of, said, subject_of
from fiml.sessions.periods import Grain, Window
from fiml.sessions.serving import ServingCache

__all__ = ["body_values", "read_week"]

_MOST_NAMED: Final = 10
# Of a report that is looked at later.
_PASSES: Final = "active_sessions"


async def read_week(database: Database, report: model.Report, week: Week) -> Report:
    """The figures of a week and of the time before it, in one snapshot; no user id is in them.

    Raises:
        DatabaseError: the database did not answer; see its subclasses.
    """
    subject = Subject(
        user_id=report.user_id,
        session_type=report.session_type,
        days=None,
        window=Window(None, week.since, week.until),
        zone=week.timezone,
    )
    read = await report_of(database, subject, Grain.DAY, ServingCache())
    if report.user_id is None:
        return read
    # Whose it is, its recipient knows.
    return replace(read, figures={**read.figures, "user_id": "one user"})


def body_values(report: model.Report, week: Week, read: Report) -> Mapping[str, Any]:
    """What the templates `report.txt` and `report.html` are filled in with."""
    return {
        "title": report.title,
        "week": week.label,
        "period": f"{period_of(read)} ({week.timezone.key})",
        "subject": ", ".join(subject_of(read)),
        "message": read.figures.get("message", ""),
        "has_before": read.before is not None,
        "as_of": read.as_of,
        "lines": [
            {
                "label": figure.label,
                "shown": said(read.figures[figure.key], figure.unit),
                "change": change_of(read.change(figure), figure),
            }
            for figure in FIGURES
            if figure.key != _PASSES
        ],
        "days": _days(read.series["periods"]),
        "rankings": [
            {
                "title": title,
                "rows": [
                    {"name": name, "shown": f"{count:,}"}
                    for name, count in entries(read.figures, key)[:_MOST_NAMED]
                ],
            }
            for key, title in LISTS.items()
        ],
    }


def _days(periods: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    most = max((period["total_sessions"] for period in periods), default=0)
    return [
        {
            "label": f"{datetime.fromisoformat(period['period_start']):%a %Y-%m-%d}",
            "sessions": f"{period['total_sessions']:,}",
            "queries": f"{period['total_queries']:,}",
            "percent": 100 * period["total_sessions"] // most if most else 0,
        }
        for period in periods
    ]
