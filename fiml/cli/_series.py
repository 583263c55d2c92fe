"""The figures over time, as a picture or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import json_document, out_console
from fiml.cli._figures import bar, heading
from fiml.cli._options import filter_options, window_options
from fiml.exports.wording import percent, span
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["timeseries"]

_WIDTH_WITH_BARS: Final = 96
_SHOWN: Final = {
    "hour": "%Y-%m-%d %H:%M",
    "day": "%a %Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
}
_SHOWN_WITHIN_A_YEAR: Final = "%m-%d %H:%M"
_FIGURES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "sessions": lambda period: f"{period['total_sessions']:,}",
    "archived": lambda period: f"{period['archived_sessions']:,}",
    "queries": lambda period: f"{period['total_queries']:,}",
    "q/session": lambda period: f"{period['avg_queries_per_session']:,.2f}",
    "duration": lambda period: span(period["avg_duration_seconds"]),
    "abandoned": lambda period: percent(period["abandonment_rate"]),
}
# The bars, which have no title; then what is like another figure, or can be had from two of them.
_FIRST_TO_GO: Final = ("", "archived", "q/session", "abandoned", "duration", "queries")


@click.command()
@filter_options
@window_options
@click.option(
    "--grain", default="day", show_default=True, help="A period: hour, day, week or month."
)
@click.option(
    "--timezone", default="UTC", show_default=True, help="Whose calendar, such as Europe/Athens."
)
@click.option("--fill/--no-fill", default=True, help="Also show periods without anything.")
@click.option("--json", "as_json", is_flag=True, help="Print exactly the documented dictionary.")
def timeseries(*, as_json: bool, **question: Any) -> None:
    """Show the figures of each hour, day, week or month."""

    async def work(settings: Settings) -> dict[str, Any]:
        from fiml.sessions.analytics import SessionAnalytics
        from fiml.sessions.store import SessionStore

        async with SessionStore(settings) as store:
            return await SessionAnalytics(store).get_session_timeseries(**question)

    with connected_settings(Purpose.READER) as settings:
        series = run_async(work(settings))
    if as_json:
        click.echo(json_document(series))
    else:
        out_console().print(_picture(series))


def _picture(series: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table, left_out = _table(series)
    parts = [heading(series, f"by {series['grain']}, {series['timezone']}"), Text(), table]
    if left_out:
        told = f"Left out to fit: {', '.join(left_out)}. A wider terminal and --json show it all."
        parts += [Text(), Text(told, style="dim")]
    if "message" in series:
        parts += [Text(), Text(series["message"], style="yellow")]
    return Group(*parts)


def _table(series: Mapping[str, Any]) -> tuple[Table, list[str]]:
    """The periods as a table that fits, and the titles of the figures that it has no room for."""
    from rich.table import Table
    from rich.text import Text

    width = out_console().width
    has_bars = width >= _WIDTH_WITH_BARS
    periods = series["periods"]
    starts = [datetime.fromisoformat(period["period_start"]) for period in periods]
    first, shown = series["grain"], _SHOWN[series["grain"]]
    years = {start.year for start in starts}
    if not has_bars and series["grain"] == "hour" and len(years) == 1:
        # The year once, so that everything fits.
        first, shown = f"hour, {min(years)}", _SHOWN_WITHIN_A_YEAR
    labels = [Text(start.strftime(shown)) for start in starts]
    for label, period in zip(labels, periods, strict=True):
        if period["is_open"]:
            label.append(" so far", style="dim")
        elif period["is_partial"]:
            label.append(" part", style="dim")
    figures = {title: [show(period) for period in periods] for title, show in _FIGURES.items()}
    left_out = _without_room(width, [first, *(label.plain for label in labels)], figures)
    if has_bars and not left_out:
        most = max((period["total_sessions"] for period in periods), default=0)
        figures[""] = [bar(period["total_sessions"], most) for period in periods]
        _without_room(width, [first, *(label.plain for label in labels)], figures)
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    # Where even the fewest columns do not fit, a figure goes on in the next line, and is not cut.
    table.add_column(first, overflow="fold")
    for title in figures:
        is_bar = not title
        table.add_column(
            title,
            justify="left" if is_bar else "right",
            style="blue" if is_bar else "",
            overflow="fold",
        )
    for label, *row in zip(labels, *figures.values(), strict=True):
        table.add_row(label, *row)
    return table, left_out


def _without_room(width: int, labels: list[str], figures: dict[str, list[str]]) -> list[str]:
    """Take columns out until the others fit, and return the titles of those, as they stood."""
    from rich.cells import cell_len

    def widest(cells: Iterable[str]) -> int:
        return max(map(cell_len, cells))

    titles = list(figures)
    for title in _FIRST_TO_GO:
        # A space between two.
        needed = widest(labels) + sum(1 + widest([name, *figures[name]]) for name in figures)
        if needed <= width:
            break
        figures.pop(title, None)
    return [title for title in titles if title not in figures]
