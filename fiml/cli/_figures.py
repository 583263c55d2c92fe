"""The command that answers: the documented figures, as a picture or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import json_document, out_console, printable
from fiml.cli._options import filter_options, window_options
from fiml.exports.wording import percent, span
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["bar", "heading", "picture", "stats"]

_BAR_WIDTH: Final = 12
_EIGHTHS: Final = "▏▎▍▌▋▊▉█"
_LONGEST_NAME: Final = 24


@click.command()
@filter_options
@window_options
@click.option("--json", "as_json", is_flag=True, help="Print exactly the documented dictionary.")
@click.option("--meta", is_flag=True, help="Say how fresh the answer is and where it came from.")
def stats(*, as_json: bool, meta: bool, **question: Any) -> None:
    """Show the figures of the last days, or of another window."""

    async def work(settings: Settings) -> dict[str, Any]:
        from fiml.sessions.analytics import SessionAnalytics
        from fiml.sessions.store import SessionStore

        async with SessionStore(settings) as store:
            return await SessionAnalytics(store).get_session_stats(**question, include_meta=meta)

    with connected_settings(Purpose.READER) as settings:
        figures = run_async(work(settings))
    if as_json:
        click.echo(json_document(figures))
    else:
        out_console().print(picture(figures))


def picture(figures: Mapping[str, Any]) -> RenderableType:
    """The documented dictionary as tables for a terminal."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [
        heading(figures, _window(figures)),
        Text(),
        _numbers(figures),
    ]
    lists = [
        _ranking("Top assets", [(row["symbol"], row["count"]) for row in figures["top_assets"]]),
        _ranking("Popular tags", [(row["tag"], row["count"]) for row in figures["popular_tags"]]),
        _ranking("Query types", list(figures["query_type_distribution"].items())),
        _ranking("Session types", list(figures["session_type_breakdown"].items())),
    ]
    shown = [Padding(ranking, (0, 0, 1, 0)) for ranking in lists if ranking is not None]
    if shown:
        parts += [Text(), Columns(shown, padding=(0, 4), equal=True)]
    if "message" in figures:
        parts += [Text(), Text(figures["message"], style="yellow")]
    if "meta" in figures:
        parts += [_facts(figures["meta"])]
    return Group(*parts)


def heading(figures: Mapping[str, Any], window: str) -> RenderableType:
    """Whose figures they are, and of which window."""
    from rich.text import Text

    subject = [
        "everybody" if figures["user_id"] is None else printable(figures["user_id"]),
        "all types" if figures["session_type"] is None else figures["session_type"],
        window,
    ]
    return Text.assemble(("Session analytics", "bold"), ("  " + " · ".join(subject), "dim"))


def _window(figures: Mapping[str, Any]) -> str:
    days = figures["period_days"]
    if "since" in figures:
        since, until = (datetime.fromisoformat(figures[end]) for end in ("since", "until"))
        return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
    return "last day" if days == 1 else f"last {days} days"


def _numbers(figures: Mapping[str, Any]) -> Table:
    from rich.table import Table

    active = figures["active_sessions"]
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(justify="right", style="bold cyan")
        grid.add_column(style="dim")
    grid.add_row(
        f"{figures['total_sessions']:,}",
        "sessions",
        "-" if active is None else f"{active:,}",
        "active now",
        f"{figures['archived_sessions']:,}",
        "archived",
    )
    grid.add_row(
        f"{figures['total_queries']:,}",
        "queries",
        f"{figures['avg_queries_per_session']:,.2f}",
        "per session",
        span(figures["avg_duration_seconds"]),
        "on average",
    )
    grid.add_row(percent(figures["abandonment_rate"]), "abandoned")
    return grid


def _ranking(title: str, counts: Sequence[tuple[str, int]]) -> Table | None:
    if not counts:
        return None
    from rich.table import Table
    from rich.text import Text

    most = max(count for _, count in counts)
    table = Table(
        title=title, title_style="bold", title_justify="left", box=None, show_header=False
    )
    table.add_column(max_width=_LONGEST_NAME, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", style="cyan")
    table.add_column(style="blue", width=_BAR_WIDTH, no_wrap=True)
    # A distribution has no end; the rest of it is in --json.
    for name, count in counts[:10]:
        table.add_row(Text(printable(name)), f"{count:,}", bar(count, most))
    if len(counts) > 10:
        table.add_row(Text(f"{len(counts) - 10} more", style="dim"))
    return table


def bar(count: int, most: int) -> str:
    """A count beside the largest one."""
    if not count:
        return ""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    if not encoding.lower().startswith("utf"):
        return "#" * max(1, count * _BAR_WIDTH // most)
    eighths = max(1, count * _BAR_WIDTH * 8 // most)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def _facts(meta: Mapping[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    for name, value in meta.items():
        grid.add_row(name, Text("-" if value is None else str(value)))
    return grid
