"""The figures over time, as a picture or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
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

    parts = [heading(series, f"by {series['grain']}, {series['timezone']}"), Text(), _table(series)]
    if "message" in series:
        parts += [Text(), Text(series["message"], style="yellow")]
    return Group(*parts)


def _table(series: Mapping[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    width = out_console().width
    has_bars = width >= _WIDTH_WITH_BARS
    starts = [datetime.fromisoformat(period["period_start"]) for period in series["periods"]]
    first, shown = series["grain"], _SHOWN[series["grain"]]
    years = {start.year for start in starts}
    if not has_bars and series["grain"] == "hour" and len(years) == 1:
        # The year once, so that everything fits.
        first, shown = f"hour, {min(years)}", _SHOWN_WITHIN_A_YEAR
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    for title in ("sessions", "archived", "queries", "q/session", "duration", "abandoned"):
        table.add_column(title, justify="right", no_wrap=True)
    if has_bars:
        table.add_column("", style="blue", no_wrap=True)
    most = max((period["total_sessions"] for period in series["periods"]), default=0)
    for start, period in zip(starts, series["periods"], strict=True):
        label = Text(start.strftime(shown))
        if period["is_open"]:
            label.append(" so far", style="dim")
        elif period["is_partial"]:
            label.append(" part", style="dim")
        table.add_row(
            label,
            f"{period['total_sessions']:,}",
            f"{period['archived_sessions']:,}",
            f"{period['total_queries']:,}",
            f"{period['avg_queries_per_session']:,.2f}",
            span(period["avg_duration_seconds"]),
            percent(period["abandonment_rate"]),
            *([bar(period["total_sessions"], most)] if has_bars else []),
        )
    return table
