"""A report as what its pages show: text that is ready, and charts.

Plain data, so that the template has nothing to compute and names stay names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from fiml.charts import Point, count_ticks, duration_ticks, line_chart, number_ticks, theme
from fiml.exports.glyphs import visible
from fiml.exports.report import FIGURES, LISTS, Figure, Report, Unit, entries, is_distribution
from fiml.exports.wording import (
    change_of,
    moment_of,
    percent,
    period_of,
    said,
    short,
    short_span,
    subject_of,
)
from fiml.sessions.periods import Grain

__all__ = ["view"]

_OF_KEY: Final = {figure.key: figure for figure in FIGURES}
# The three that stand out, then the others.
_TILES: Final = (
    "total_sessions",
    "total_queries",
    "abandonment_rate",
    "avg_queries_per_session",
    "avg_duration_seconds",
    "archived_sessions",
    "active_sessions",
)
_COLUMNS: Final = (
    "total_sessions",
    "total_queries",
    "avg_queries_per_session",
    "avg_duration_seconds",
    "abandonment_rate",
    "archived_sessions",
)
# A distribution has no end, and a report has; the rest of it is one line.
_MOST_NAMES: Final = 10
_MOST_PERIODS: Final = 120
# In pixels, three quarters of which are points on the page: labels are 9 of them high.
_WIDE: Final = (640.0, 260.0)
_HALF: Final = (304.0, 170.0)
# What each axis is labelled with, by what its figures are measured in.
_AXES: Final[dict[Unit, tuple[Callable[[float], list[float]], Callable[[float], str]]]] = {
    Unit.COUNT: (count_ticks, "{:,.0f}".format),
    Unit.AVERAGE: (number_ticks, "{:g}".format),
    Unit.SECONDS: (duration_ticks, short_span),
    Unit.SHARE: (number_ticks, lambda share: f"{share * 100:g} %"),
}
# The first two rows of the template, and the pair on its second page.
_CHARTS: Final = (
    ("total_sessions", _WIDE),
    ("total_queries", _HALF),
    ("abandonment_rate", _HALF),
    ("avg_queries_per_session", _HALF),
    ("avg_duration_seconds", _HALF),
)
# What a browser would choose Typst does not have.
_FONT: Final = "Libertinus Serif"


def view(report: Report, title: str) -> dict[str, Any]:
    """What the template shows."""
    user, kind = subject_of(report)
    return {
        "title": visible(title),
        "subject": f"{visible(user)}, {visible(kind)}",
        "period": period_of(report),
        "timezone": report.zone.key,
        "as_of": f"{moment_of(report.as_of)} {report.as_of.tzname()}",
        "headline": _headline(report),
        "tiles": [_tile(report, _OF_KEY[key]) for key in _TILES],
        "charts": [_chart(report, *chart) for chart in _CHARTS],
        "lists": [_list(report, key, label) for key, label in LISTS.items()],
        "table": _table(report),
        "notes": list(_notes(report)),
    }


def _headline(report: Report) -> str:
    figures = report.figures
    sessions = figures["total_sessions"]
    if not sessions:
        return str(figures.get("message", ""))
    parts = [f"{sessions:,} session{'' if sessions == 1 else 's'}"]
    change = report.change(_OF_KEY["total_sessions"])
    if change is not None and change.percent is not None:
        if change.percent == 0:
            about = "" if change.before == sessions else "about "
            parts.append(f"{about}as many as in the window before")
        else:
            more = "more" if change.percent > 0 else "fewer"
            parts.append(f"{abs(change.percent):,} % {more} than in the window before")
    each = said(figures["avg_queries_per_session"], Unit.AVERAGE)
    abandoned = percent(figures["abandonment_rate"])
    return f"{', '.join(parts)}; {each} queries in each on average; {abandoned} were abandoned."


def _tile(report: Report, figure: Figure) -> dict[str, str]:
    change = report.change(figure)
    return {
        "label": figure.label,
        "value": said(_known(report.figures, figure), figure.unit),
        "change": change_of(change, figure),
        "before": "" if change is None else said(change.before, figure.unit),
    }


def _chart(report: Report, key: str, size: tuple[float, float]) -> dict[str, str]:
    figure = _OF_KEY[key]
    ticks, shown = _AXES[figure.unit]
    grain = Grain(report.series["grain"])
    periods = report.series["periods"]
    before = report.series_before["periods"] if report.series_before is not None else []
    values = [_known(period, figure) for period in periods]
    title = f"{figure.label}, by {grain}"
    width, height = size
    points = [
        Point(
            short(_start(period), grain),
            value,
            is_partial=period["is_partial"] or period["is_open"],
        )
        for period, value in zip(periods, values, strict=True)
    ]
    svg = line_chart(
        points,
        # Of months the window before may have one more, or less.
        [_known(period, figure) for period in before[: len(periods)]],
        title=title,
        width=width,
        height=height,
        ticks=ticks,
        shown=shown,
    )
    return {
        "title": title,
        "svg": svg.replace(escape(theme.FONT), _FONT),
        "description": _description(
            title, [value for value in values if value is not None], figure.unit
        ),
    }


def _description(title: str, values: Sequence[float], unit: Unit) -> str:
    """The chart for those who cannot see it."""
    if not values:
        return f"{title}: none."
    least, most = said(min(values), unit), said(max(values), unit)
    return f"{title}, from {least} to {most}. The table has every number."


def _list(report: Report, key: str, label: str) -> dict[str, Any]:
    counted = entries(report.figures, key)
    most = max((number for _, number in counted), default=1)
    total = sum(number for _, number in counted) if is_distribution(key) else 0
    rest = counted[_MOST_NAMES:]
    return {
        "label": label,
        "rows": [
            {
                "name": visible(name),
                "count": f"{number:,}",
                "share": percent(number / total) if total else "",
                "width": number / most,
            }
            for name, number in counted[:_MOST_NAMES]
        ],
        "rest": f"{len(rest):,} more, {sum(number for _, number in rest):,} in all" if rest else "",
    }


def _table(report: Report) -> dict[str, Any]:
    grain = Grain(report.series["grain"])
    periods = report.series["periods"]
    shown = periods[-_MOST_PERIODS:]
    return {
        "title": f"Every {grain}"
        if len(shown) == len(periods)
        else f"The last {len(shown)} of {len(periods):,} {grain}s",
        "headings": [str(grain).capitalize(), *(_OF_KEY[key].label for key in _COLUMNS)],
        "rows": [
            [
                short(_start(period), grain, with_year=True),
                *(said(_known(period, _OF_KEY[key]), _OF_KEY[key].unit) for key in _COLUMNS),
            ]
            for period in shown
        ],
        "is_cut": [period["is_partial"] or period["is_open"] for period in shown],
    }


def _known(figures: Mapping[str, Any], figure: Figure) -> float | None:
    # Of no sessions there is no average, and no share.
    is_of_sessions = figure.unit is not Unit.COUNT
    value: float | None = figures[figure.key]
    return None if is_of_sessions and not figures["total_sessions"] else value


def _notes(report: Report) -> Iterator[str]:
    grain = report.series["grain"]
    if report.before is None:
        yield (
            "Nothing is compared with: there were no sessions yet when the window before began, or "
            "not all of its rows are kept."
        )
    else:
        yield "The window before is as long and ends where this one begins; in charts it is grey."
    if any(period["is_partial"] or period["is_open"] for period in report.series["periods"]):
        article = "an" if grain == Grain.HOUR else "a"
        yield f"Dashed in charts, grey in the table: {article} {grain} that the window has in part."


def _start(period: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(period["period_start"])
