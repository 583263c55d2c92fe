"""A line over time, and the small one without axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from fiml.charts import theme
from fiml.charts._svg import element, path, text, text_width
from fiml.charts.ticks import number_ticks

__all__ = ["Point", "line_chart", "plot_area", "sparkline"]

_TOP: Final = 10.0
_RIGHT: Final = 12.0
_BOTTOM: Final = 26.0
_DASHES: Final = "4 4"
_LABEL_GAP: Final = 14.0

_XY = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """One period.

    Attributes:
        label: its name on the axis.
        value: its figure, not negative; None where there is none.
        is_partial: the figure is not the whole period's: the lines that lead to it are dashed.
    """

    label: str
    value: float | None
    is_partial: bool = False


def line_chart(
    points: Sequence[Point],
    ghost: Sequence[float | None] = (),
    *,
    title: str,
    width: float = 1080,
    height: float = 260,
    ticks: Callable[[float], list[float]] = number_ticks,
    shown: Callable[[float], str] = "{:g}".format,
    class_: str = "chart",
) -> str:
    """Draw figures over time, from zero.

    Args:
        points: side by side, in the order of time.
        ghost: figures to compare with, each drawn where the point of the same number is.
        title: what a screen reader says.
        width, height: in pixels; text is 12 of them high.
        ticks: what the axis of figures is labelled with, for the largest of them.
        shown: how a figure is written on that axis.
        class_: of the element.
    """
    values = [point.value for point in points]
    drawn = [value for value in (*values, *ghost) if value is not None]
    marks = ticks(max(drawn, default=0.0))
    labels = [shown(mark) for mark in marks]
    left, right = plot_area(labels, width)
    bottom = height - _BOTTOM

    def y(value: float) -> float:
        return bottom - value / marks[-1] * (bottom - _TOP)

    xs = _positions(len(points), left, right)
    line = [
        (x, y(value)) if value is not None else None for x, value in zip(xs, values, strict=True)
    ]
    before = [
        (x, y(value)) if value is not None else None for x, value in zip(xs, ghost, strict=False)
    ]
    return element(
        "svg",
        element(
            "g",
            *(element("path", d=path([(left, y(mark)), (right, y(mark))])) for mark in marks),
            class_="chart-grid",
            stroke=theme.GRID,
            stroke_width=1,
        ),
        element(
            "g",
            *(
                text(label, left - 8, y(mark) + 4, text_anchor="end")
                for label, mark in zip(labels, marks, strict=True)
            ),
            *_period_labels(points, xs, height - 8, right),
            class_="chart-labels",
            fill=theme.MUTED,
            font_size=theme.FONT_SIZE,
        ),
        *_area(line, bottom),
        *_line(before, "chart-ghost", theme.GHOST, 1.5),
        *_figure_line(line, [point.is_partial for point in points]),
        xmlns="http://www.w3.org/2000/svg",
        class_=class_,
        role="img",
        aria_label=title,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        font_family=theme.FONT,
        # For whoever looks up the point under a pointer.
        data_left=left,
        data_right=right,
        data_count=str(len(points)),
    )


def plot_area(labels: Sequence[str], width: float) -> tuple[float, float]:
    """Where the first and the last point of a chart with these labels of figures are."""
    widest = max((text_width(label, theme.FONT_SIZE) for label in labels), default=0.0)
    return widest + 12, width - _RIGHT


def sparkline(
    points: Sequence[Point], *, width: float = 120, height: float = 28, class_: str = "spark"
) -> str:
    """Draw the shape of figures over time, from zero, without a word; a decoration to a reader."""
    largest = max((point.value for point in points if point.value is not None), default=0.0) or 1.0
    bottom = height - 2
    line: list[_XY | None] = [
        (x, bottom - point.value / largest * (bottom - 3)) if point.value is not None else None
        for x, point in zip(_positions(len(points), 2, width - 2), points, strict=True)
    ]
    return element(
        "svg",
        *_area(line, bottom),
        *_figure_line(line, [point.is_partial for point in points], width=1.5, dashes="2 2"),
        xmlns="http://www.w3.org/2000/svg",
        class_=class_,
        aria_hidden="true",
        viewBox=f"0 0 {width:g} {height:g}",
        # Where a stylesheet gives it another shape, it fills that.
        preserveAspectRatio="none",
        width=width,
        height=height,
    )


def _positions(count: int, left: float, right: float) -> list[float]:
    if count == 1:
        return [(left + right) / 2]
    return [left + number * (right - left) / (count - 1) for number in range(count)]


def _period_labels(
    points: Sequence[Point], xs: Sequence[float], y: float, right: float
) -> list[str]:
    """As many as there is room for, at equal distances, the last period's among them."""
    if not points:
        return []
    widths = [text_width(point.label, theme.FONT_SIZE) for point in points]
    # The last one is moved to where it fits, towards the one before.
    moved = max(0.0, xs[-1] + widths[-1] / 2 - right - _RIGHT)
    widest = max(widths) + _LABEL_GAP + moved
    distance = xs[1] - xs[0] if len(xs) > 1 else widest
    step = max(1, -int(-widest // distance))
    found: list[str] = []
    edge = float("inf")
    for number in range(len(points) - 1, -1, -step):
        half = widths[number] / 2
        anchor = "middle"
        x = xs[number]
        if x + half > right + _RIGHT:
            anchor, x = "end", right + _RIGHT
        elif x < half:
            anchor, x = "start", 0.0
            if 2 * half + _LABEL_GAP > edge:
                break
        edge = xs[number] - half
        found.append(text(points[number].label, x, y, text_anchor=anchor))
    return found[::-1]


def _runs(line: Sequence[_XY | None]) -> list[list[_XY]]:
    """The stretches without a gap."""
    return [
        [point for point in run if point is not None]
        for is_there, run in groupby(line, key=lambda point: point is not None)
        if is_there
    ]


def _line(
    line: Sequence[_XY | None], class_: str, colour: str, width: float, dashes: str | None = None
) -> list[str]:
    return [
        element(
            "path",
            class_=class_,
            d=path(run),
            fill="none",
            stroke=colour,
            stroke_width=width,
            stroke_linejoin="round",
            stroke_linecap="round",
            stroke_dasharray=dashes,
        )
        for run in _runs(line)
        if len(run) > 1
    ]


def _area(line: Sequence[_XY | None], bottom: float) -> list[str]:
    return [
        element(
            "path",
            class_="chart-area",
            d=path([(run[0][0], bottom), *run, (run[-1][0], bottom)]) + "Z",
            fill=theme.TINT,
        )
        for run in _runs(line)
        if len(run) > 1
    ]


def _figure_line(
    line: Sequence[_XY | None],
    partial: Sequence[bool],
    *,
    width: float = 2,
    dashes: str = _DASHES,
) -> list[str]:
    """The line, dashed where it leads from or to what is partial; dots without neighbours."""
    drawn: list[str] = []
    pieces: list[tuple[bool, list[_XY]]] = []
    for number in range(1, len(line)):
        begin, end = line[number - 1], line[number]
        if begin is None or end is None:
            continue
        is_dashed = partial[number - 1] or partial[number]
        if pieces and pieces[-1][0] == is_dashed and pieces[-1][1][-1] == begin:
            pieces[-1][1].append(end)
        else:
            pieces.append((is_dashed, [begin, end]))
    for is_dashed, piece in pieces:
        class_ = "chart-line chart-partial" if is_dashed else "chart-line"
        drawn += _line(piece, class_, theme.ACCENT, width, dashes if is_dashed else None)
    drawn += [
        element("circle", class_="chart-dot", cx=run[0][0], cy=run[0][1], r=3, fill=theme.ACCENT)
        for run in _runs(line)
        if len(run) == 1
    ]
    return drawn
