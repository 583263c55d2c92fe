"""Charts as SVG text: pure functions, light by themselves, in any theme where a page's CSS says so.

Each element that has a colour has a class too, and CSS goes before an attribute. Nothing is styled
inline, so a page's Content-Security-Policy may forbid that; nothing is fetched and there is no
script, so the same text goes into a file, a mail or a PDF.
"""

from fiml.charts.bars import bar_chart, share_bar
from fiml.charts.lines import Point, line_chart, plot_area, sparkline
from fiml.charts.ticks import count_ticks, duration_ticks, number_ticks

__all__ = [
    "Point",
    "bar_chart",
    "count_ticks",
    "duration_ticks",
    "line_chart",
    "number_ticks",
    "plot_area",
    "share_bar",
    "sparkline",
]
