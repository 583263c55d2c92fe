"""The charts of a workbook, drawn from its cells by whatever program shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from fiml.charts import theme
from fiml.exports.report import Figure, Unit
from fiml.sessions.periods import Grain

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.chart import Chart

__all__ = ["MOST_BARS", "bars_of_names", "figure_over_time"]

# A chart of more can no longer be read; the rows are all there.
MOST_BARS: Final = 20
_MOST_LABELS: Final = 12

_PERIOD_FORMATS: Final = {
    Grain.HOUR: "hh:mm",
    Grain.DAY: "d mmm",
    Grain.WEEK: "d mmm",
    Grain.MONTH: "mmm yyyy",
}
_AXIS_FORMATS: Final = {
    Unit.COUNT: "#,##0",
    Unit.AVERAGE: "0.0",
    Unit.SECONDS: "#,##0",
    Unit.SHARE: "0%",
}
_LABELS: Final = {"size": 8, "color": theme.MUTED}


def figure_over_time(
    workbook: Workbook, figure: Figure, grain: Grain, *, sheet: str, column: int, length: int
) -> Chart:
    """A figure of each period; bars of what can be counted, a line of the rest.

    Args:
        workbook: what the chart is for.
        figure: which one.
        grain: how long a period is.
        sheet: where the periods are: from the second row on, their beginnings in the first column.
        column: where the figure is, from 0.
        length: how many periods there are.
    """
    is_count = figure.unit is Unit.COUNT
    title = f"{figure.label}, by {grain}"
    chart = _chart(workbook, "column" if is_count else "line", title)
    chart.add_series(
        {
            "name": title,
            "categories": [sheet, 1, 0, length, 0],
            "values": [sheet, 1, column, length, column],
            "gap": 40,
            **({"fill": _FILL} if is_count else {"line": {**_FILL, "width": 1.75}}),
        }
    )
    chart.set_x_axis(
        {
            # On an axis of dates the bar of a week would be as wide as a day.
            "text_axis": True,
            "interval_unit": -(-length // _MOST_LABELS),
            "num_format": _PERIOD_FORMATS[grain],
            "num_font": _LABELS,
            "line": {"color": theme.GHOST},
            "major_tick_mark": "none",
        }
    )
    chart.set_y_axis(
        {
            "min": 0,
            "num_format": _AXIS_FORMATS[figure.unit],
            "num_font": _LABELS,
            "line": {"none": True},
            "major_gridlines": {"visible": True, "line": {"color": theme.GRID}},
            "major_tick_mark": "none",
        }
    )
    chart.set_size({"width": 620, "height": 230})
    return chart


def bars_of_names(workbook: Workbook, label: str, *, sheet: str, length: int) -> Chart:
    """A bar for each name of a sheet's first column, as long as its second one says."""
    shown = min(length, MOST_BARS)
    chart = _chart(workbook, "bar", label)
    chart.add_series(
        {
            "name": label,
            "categories": [sheet, 1, 0, shown, 0],
            "values": [sheet, 1, 1, shown, 1],
            "fill": _FILL,
            "gap": 40,
            "data_labels": {"value": True, "font": _LABELS},
        }
    )
    # The first on top.
    chart.set_y_axis({"reverse": True, "line": {"none": True}, "major_tick_mark": "none"})
    chart.set_x_axis({"visible": False, "major_gridlines": {"visible": False}})
    chart.set_size({"width": 520, "height": 90 + 26 * shown})
    return chart


_FILL: Final = {"color": theme.ACCENT}


def _chart(workbook: Workbook, kind: str, title: str) -> Chart:
    # None is of kinds that there are not.
    chart = cast("Chart", workbook.add_chart({"type": kind}))
    chart.set_title({"name": title, "name_font": {"size": 11, "bold": False, "color": theme.INK}})
    chart.set_legend({"none": True})
    chart.set_chartarea({"border": {"none": True}})
    return chart
