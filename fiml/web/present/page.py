"""A view as what the templates write: every text, every chart, every address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from fiml.web import calendar
from fiml.web.filters import Filters
from fiml.web.present.chart import Chart, chart_of
from fiml.web.present.foot import Alert, State, alerts_of, state_of
from fiml.web.present.lists import NameList, lists_of
from fiml.web.present.tiles import Tile, tiles_of
from fiml.web.views import View

__all__ = ["Page", "present"]


@dataclass(frozen=True, slots=True)
class Page:
    """All that a view shows."""

    as_of: str
    as_of_written: str
    window_written: str
    message: str | None
    longer: str | None
    unfiltered: str | None
    tiles: list[Tile]
    chart: Chart
    lists: list[NameList]
    alerts: list[Alert] | None
    state: State
    figures_address: str


def present(view: View, filters: Filters) -> Page:
    """A view in words and pictures."""
    stats = view.stats
    message = stats.get("message")
    is_filtered = bool(filters.given.keys() & {"user", "type"})
    return Page(
        as_of=view.as_of.isoformat(),
        as_of_written=calendar.instant(view.as_of, view.subject.zone),
        window_written=calendar.window(view.since, view.until, view.subject.zone),
        message=message,
        longer=filters.window_address(days=365)
        if message and stats["period_days"] != 365
        else None,
        unfiltered=filters.address(user=None, type=None) if message and is_filtered else None,
        tiles=tiles_of(view, filters),
        chart=chart_of(view, filters),
        lists=lists_of(view, filters),
        alerts=alerts_of(view),
        state=state_of(view),
        figures_address=_figures_address(view, filters),
    )


def _figures_address(view: View, filters: Filters) -> str:
    """Where a program gets the figures of this view."""
    given = filters.given
    asked = {name: given[name] for name in ("user", "type", "days", "hours") if name in given}
    if given.keys() & {"since", "until", "through"}:
        asked |= {"since": view.since.isoformat(), "until": view.until.isoformat()}
    return f"/api/stats?{urlencode(asked)}" if asked else "/api/stats"
