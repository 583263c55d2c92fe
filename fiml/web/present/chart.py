"""The main chart, and the table that says the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from fiml.charts import Point, line_chart
from fiml.web import calendar
from fiml.web.figures import Figure
from fiml.web.present.periods import value_of
from fiml.web.views import View

__all__ = ["Chart", "PeriodRow", "chart_of"]

# Width and height of the main chart, and the class that shows it where it fits.
_SIZES: Final = ((1080, 260, "wide"), (660, 240, "middle"), (360, 200, "narrow"))


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """A period in the main chart's table.

    Attributes:
        start: ISO 8601.
        name: the period's.
        note: what is not whole about it.
        value, written: its figure.
        before, before_written: the figure of the period at the same place of the window before.
    """

    start: str
    name: str
    note: str
    value: float
    written: str
    before: float | None
    before_written: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The main chart and its table.

    Attributes:
        label: the figure's.
        period_name: what a row of the table is.
        drawings: the same in several widths.
        rows: of the table.
    """

    label: str
    period_name: str
    drawings: list[Markup]
    rows: list[PeriodRow]


def chart_of(view: View, figure: Figure) -> Chart:
    """The figure over time, and that of the window before."""
    periods = view.series["periods"]
    # Both windows end with the same part of a period: they are laid upon each other from there.
    earlier: list[dict[str, Any] | None] = list(view.series_before["periods"][-len(periods) :])
    earlier = [*[None] * (len(periods) - len(earlier)), *earlier] if periods else []
    ghost = [None if period is None else value_of(period, figure) for period in earlier]
    starts = [datetime.fromisoformat(period["period_start"]) for period in periods]
    points = [
        Point(
            calendar.short_period(start, view.grain),
            value_of(period, figure),
            is_partial=period["is_partial"],
        )
        for start, period in zip(starts, periods, strict=True)
    ]
    title = f"{figure.label} by {view.grain}, and in the window before"
    drawings = [
        Markup(  # noqa: S704 - it is ours, escaped
            line_chart(
                points,
                ghost,
                title=title,
                width=width,
                height=height,
                ticks=figure.ticks,
                shown=figure.on_axis,
                class_=f"chart {name}",
            )
        )
        for width, height, name in _SIZES
    ]
    rows = [
        PeriodRow(
            start=period["period_start"],
            name=calendar.period(start, view.grain),
            note=_note(period),
            value=period[figure.key],
            written=figure.written(period[figure.key]),
            before=None if before is None else before[figure.key],
            before_written="" if before is None else figure.written(before[figure.key]),
        )
        for start, period, before in zip(starts, periods, earlier, strict=True)
    ]
    return Chart(figure.label, calendar.PERIOD_NAMES[view.grain], drawings, rows)


def _note(period: dict[str, Any]) -> str:
    if period["is_open"]:
        return "so far"
    return "in part" if period["is_partial"] else ""
