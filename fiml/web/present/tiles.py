"""The single figures, each with its change and its small line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from fiml.charts import Point, sparkline
from fiml.web.figures import FIGURES, NOW, Better, Figure, change, percent
from fiml.web.filters import Filters
from fiml.web.present.periods import figures_of
from fiml.web.views import View

__all__ = ["Tile", "tiles_of"]

# A smaller change is neither good nor bad.
_NOTABLE_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure.

    Attributes:
        key, label: of the figure.
        value: the number itself.
        written: the number as a person reads it.
        direction: "up", "down", "same", or "" where there is nothing to compare with.
        by: how much.
        judgement: "better", "worse" or "".
        before: the figure of the window before, as a person reads it.
        address: the view with it as the main chart's figure; None where it has no history.
        is_current: whether it is that already.
        spark: its small line.
    """

    key: str
    label: str
    value: float
    written: str
    direction: str = ""
    by: str = ""
    judgement: str = ""
    before: str = ""
    address: str | None = None
    is_current: bool = False
    spark: Markup = Markup("")  # noqa: RUF009 - immutable


def tiles_of(view: View, filters: Filters) -> list[Tile]:
    """Every figure; those of the present alone where the window ends there."""
    return [*(_tile(view, filters, known) for known in FIGURES), *_now_tile(view)]


def _tile(view: View, filters: Filters, figure: Figure) -> Tile:
    now, before = view.stats[figure.key], view.before[figure.key]
    direction, by = _direction(view, figure, now, before)
    judgement = ""
    is_notable = abs(now - before) >= _NOTABLE_SHARE * before
    if direction in {"up", "down"} and is_notable and figure.better is not Better.NEITHER:
        is_better = (direction == "up") == (figure.better is Better.MORE)
        judgement = "better" if is_better else "worse"
    return Tile(
        key=figure.key,
        label=figure.label,
        value=now,
        written=figure.written(now),
        direction=direction,
        by=by,
        judgement=judgement,
        before=figure.written(before),
        address=filters.address(figure=None if figure is FIGURES[0] else figure.key),
        is_current=figure is filters.figure,
        spark=Markup(sparkline(_points(view.series, figure))),  # noqa: S704 - it is ours, escaped
    )


def _now_tile(view: View) -> list[Tile]:
    active = view.stats[NOW.key]
    if active is None:
        return []
    return [Tile(key=NOW.key, label=NOW.label, value=active, written=NOW.written(active))]


def _direction(view: View, figure: Figure, now: float, before: float) -> tuple[str, str]:
    if not view.is_comparable:
        return "", ""
    is_of_sessions = figure.key != "archived_sessions"
    if is_of_sessions and not (view.stats["total_sessions"] and view.before["total_sessions"]):
        # An average of nothing is no figure to compare with.
        return "", ""
    if now == before:
        return ("same", "no change") if now else ("", "")
    if figure.better is Better.LESS:
        by = f"{percent(abs(now - before)).removesuffix('%')}points"
    else:
        by = change(now, before) or ""
    return (("up" if now > before else "down"), by) if by else ("", "")


def _points(series: dict[str, Any], figure: Figure) -> list[Point]:
    return [
        Point("", found.drawn, is_partial=period["is_partial"])
        for period, found in zip(series["periods"], figures_of(series, figure), strict=True)
    ]
