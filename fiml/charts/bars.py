"""Names and how often each occurs, as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fiml.charts import theme
from fiml.charts._svg import element, text, text_width

__all__ = ["bar_chart", "share_bar"]

_ROW: Final = 24.0
_PADDING: Final = 8.0


def bar_chart(
    rows: Sequence[tuple[str, float]],
    *,
    title: str,
    width: float = 360,
    shown: Callable[[float], str] = "{:,.0f}".format,
    class_: str = "chart",
) -> str:
    """Draw a bar behind each name, its length by the largest figure, and the figure at the end.

    Args:
        rows: name and figure, which is not negative; drawn in the order given.
        title: what a screen reader says.
        width: in pixels; a row is 24 of them high.
        shown: how a figure is written.
        class_: of the element.
    """
    largest = max((figure for _, figure in rows), default=0.0) or 1.0
    figures = [shown(figure) for _, figure in rows]
    room = max((text_width(figure, theme.FONT_SIZE) for figure in figures), default=0.0)
    longest = width - room - 2 * _PADDING
    height = _ROW * len(rows)
    drawn: list[str] = []
    for number, ((name, figure), written) in enumerate(zip(rows, figures, strict=True)):
        top = number * _ROW
        drawn += [
            element(
                "rect",
                class_="chart-bar",
                x=0,
                y=top + 2,
                width=figure / largest * longest,
                height=_ROW - 4,
                rx=3,
                fill=theme.TINT,
            ),
            text(_cut(name, longest - 2 * _PADDING), _PADDING, top + 16, class_="chart-name"),
            text(written, width, top + 16, class_="chart-figure", text_anchor="end"),
        ]
    return element(
        "svg",
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        class_=class_,
        role="img",
        aria_label=title,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        font_family=theme.FONT,
        font_size=theme.FONT_SIZE,
        fill=theme.INK,
    )


def share_bar(share: float, class_: str = "bar") -> str:
    """Draw one bar, `share` (0 to 1) of the width of whatever it is put into."""
    return element(
        "svg",
        element("rect", class_="chart-bar", width=100 * share, height=1, fill=theme.TINT),
        class_=class_,
        aria_hidden="true",
        viewBox="0 0 100 1",
        preserveAspectRatio="none",
    )


def _cut(name: str, width: float) -> str:
    most = max(1, int(width // text_width("x", theme.FONT_SIZE)))
    return name if len(name) <= most else name[: most - 1] + "…"
