"""The main chart, and the table that says the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from markupsafe import Markup

from fiml.charts import Point, line_chart
from fiml.sessions.periods import Grain
from fiml.web import calendar
from fiml.web.figures import NOW
from fiml.web.filters import Filters, fitting_grains, suitable_grain
from fiml.web.present.links import Link
from fiml.web.present.periods import PeriodFigure, figures_of
from fiml.web.views import View

__all__ = ["Chart", "PeriodRow", "chart_of"]

# Width and height of the main chart, and the class that shows it where it fits.
_SIZES: Final = ((1080, 260, "wide"), (660, 240, "middle"), (360, 200, "narrow"))

_TWO_DAYS: Final = timedelta(days=2)


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
        name: the name that it counts; "" for no name.
        counted: what the column of its figures is called.
        grains: the same by other periods; none where there is nothing to choose.
        period_name: what a row of the table is.
        drawings: the same in several widths.
        rows: of the table.
        is_comparable: whether the window before is drawn, too.
        is_growing: whether sessions that have not ended will be in the latest periods.
    """

    label: str
    name: str
    counted: str
    grains: list[Link]
    period_name: str
    drawings: list[Markup]
    rows: list[PeriodRow]
    is_comparable: bool
    is_growing: bool


def chart_of(view: View, filters: Filters) -> Chart:
    """The figure over time, and that of the window before."""
    figure = filters.figure
    periods = view.series["periods"]
    found = figures_of(view.series, figure, view.counts)
    # Both windows end with the same part of a period: they are laid upon each other from there.
    earlier: list[PeriodFigure | None] = []
    if view.is_comparable:
        earlier += figures_of(view.series_before, figure, view.counts_before)[-len(periods) :]
    earlier = [*[None] * (len(periods) - len(earlier)), *earlier] if periods else []
    ghost = [None if before is None else before.drawn for before in earlier]
    starts = [datetime.fromisoformat(period["period_start"]) for period in periods]
    is_of_days = view.until - view.since > _TWO_DAYS
    points = [
        Point(
            calendar.short_period(start, view.grain, is_of_days=is_of_days),
            its.drawn,
            is_partial=period["is_partial"],
        )
        for start, period, its in zip(starts, periods, found, strict=True)
    ]
    label = f"{figure.label} {figure.name}" if figure.name else figure.label
    title = f"{label} by {view.grain}"
    if view.is_comparable:
        title += ", and in the window before"
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
            value=its.value,
            written=figure.written(its.value),
            before=None if before is None else before.value,
            before_written="" if before is None else figure.written(before.value),
        )
        for start, period, its, before in zip(starts, periods, found, earlier, strict=True)
    ]
    return Chart(
        label=figure.label,
        name=figure.name or "",
        counted=figure.counted or figure.label,
        grains=_grains(view, filters),
        period_name=calendar.PERIOD_NAMES[view.grain],
        drawings=drawings,
        rows=rows,
        is_comparable=view.is_comparable,
        is_growing=bool(view.stats[NOW.key]),
    )


def _grains(view: View, filters: Filters) -> list[Link]:
    length = view.until - view.since
    suitable = suitable_grain(length)
    # One that was asked for in the address is told, whether it fits or not.
    offered = {*fitting_grains(length), view.grain}
    links = [
        Link(
            grain.capitalize(),
            filters.address(grain=None if grain is suitable else grain),
            grain is view.grain,
        )
        for grain in Grain
        if grain in offered
    ]
    return links if len(links) > 1 else []


def _note(period: dict[str, Any]) -> str:
    if period["is_open"]:
        return "so far"
    return "in part" if period["is_partial"] else ""
