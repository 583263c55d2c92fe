"""Charts are well-formed, whatever they are given, and draw each figure where it belongs."""

import re
from itertools import pairwise, product
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiml.charts import (
    Point,
    bar_chart,
    count_ticks,
    duration_ticks,
    line_chart,
    number_ticks,
    share_bar,
    sparkline,
)

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = st.floats(0, 1e12, allow_nan=False)
POINTS = st.lists(
    st.builds(Point, st.text(max_size=12), st.none() | FIGURES, st.booleans()), max_size=40
)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - it is ours


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [node for node in root.iter() if name in node.get("class", "").split()]


def coordinates(node: ET.Element) -> list[tuple[float, float]]:
    return [
        (float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", node.get("d") or "")
    ]


def chart(*values: float | None, partial: tuple[int, ...] = ()) -> list[Point]:
    return [
        Point(str(number), value, is_partial=number in partial)
        for number, value in enumerate(values)
    ]


@given(POINTS, st.lists(st.none() | FIGURES, max_size=40), st.text(), st.sampled_from([300, 1080]))
def test_whatever_it_is_given_it_is_well_formed_and_within_its_edges(
    points: list[Point], ghost: list[float | None], title: str, width: int
) -> None:
    for svg in (line_chart(points, ghost, title=title, width=width), sparkline(points)):
        root = parsed(svg)
        assert "nan" not in svg
        assert "inf" not in svg
        for node in root.iter(f"{SVG}path"):
            for x, y in coordinates(node):
                assert 0 <= x <= float(root.get("width") or 0)
                assert 0 <= y <= float(root.get("height") or 0)


@given(st.lists(st.tuples(st.text(max_size=300), FIGURES), max_size=12), st.text())
def test_bars_of_any_names_are_well_formed(rows: list[tuple[str, float]], title: str) -> None:
    root = parsed(bar_chart(rows, title=title))
    assert len(of_class(root, "chart-bar")) == len(rows)
    for node in of_class(root, "chart-bar"):
        assert 0 <= float(node.get("width") or 0) <= 360


def test_a_figure_is_as_high_as_it_is_large() -> None:
    (line,) = of_class(parsed(line_chart(chart(0, 50, 100), title="t")), "chart-line")
    (_, none), (_, half), (_, whole) = coordinates(line)
    assert none - half == pytest.approx(half - whole, abs=0.2)
    assert (none, whole) == (260 - 26, 10)


def test_the_window_before_is_drawn_on_the_same_scale() -> None:
    root = parsed(line_chart(chart(1, 2), [4, 2], title="t"))
    (line,), (ghost,) = of_class(root, "chart-line"), of_class(root, "chart-ghost")
    assert coordinates(line)[1] == coordinates(ghost)[1]
    assert coordinates(ghost)[0][1] == 10


def test_what_is_partial_is_dashed_and_nothing_else() -> None:
    root = parsed(line_chart(chart(1, 2, 3, 4, 5, partial=(0, 4)), title="t"))
    pieces = [
        (node.get("stroke-dasharray") is not None, len(coordinates(node)))
        for node in of_class(root, "chart-line")
    ]
    assert pieces == [(True, 2), (False, 3), (True, 2)]
    assert len(of_class(root, "chart-partial")) == 2


def test_a_gap_is_a_gap_and_a_lone_figure_a_dot() -> None:
    root = parsed(line_chart(chart(1, 2, None, 3, None, 4, 5), title="t"))
    assert [len(coordinates(node)) for node in of_class(root, "chart-line")] == [2, 2]
    assert len(of_class(root, "chart-dot")) == 1


def test_labels_of_periods_do_not_touch_and_the_last_is_among_them() -> None:
    for count, width, more in product((1, 2, 3, 30, 168), (320, 640, 1080), ("", " 23:00")):
        points = [Point(f"{day} Sept{more}", 1) for day in range(1, count + 1)]
        root = parsed(line_chart(points, title="t", width=width))
        labels = [node for node in root.iter(f"{SVG}text") if "Sept" in (node.text or "")]
        assert labels[-1].text == points[-1].label
        assert len(labels) >= min(count, 3) - bool(more)
        places = [_place(node) for node in labels]
        assert places[0][0] >= 0
        assert places[-1][1] <= width
        assert all(left[1] + 5 < right[0] for left, right in pairwise(places))


def _place(node: ET.Element) -> tuple[float, float]:
    """From where to where a label of twelve pixels goes, in a font that is rather wide."""
    length = 6.9 * len(node.text or "")
    x = float(node.get("x") or 0)
    start = {"start": x, "middle": x - length / 2, "end": x - length}[node.get("text-anchor") or ""]
    return start, start + length


def test_text_from_outside_stays_text() -> None:
    hostile = "</text><script>alert(1)</script>\0\ud800\x1b"
    for svg in (
        line_chart([Point(hostile, 1), Point("b", 2)], title=f'"{hostile}'),
        bar_chart([(hostile, 1)], title=hostile),
    ):
        root = parsed(svg.encode().decode())
        assert [node for node in root.iter() if node.tag == f"{SVG}script"] == []


def test_every_colour_has_a_class_that_a_theme_can_speak_to() -> None:
    for svg in (
        line_chart(chart(1, 2, 3, partial=(2,)), [3, 2, 1], title="t"),
        line_chart(chart(1), title="t"),
        sparkline(chart(1, 2)),
        share_bar(0.5),
    ):
        for node in parsed(svg).iter():
            if {node.get("fill"), node.get("stroke")} - {None, "none"}:
                assert (node.get("class") or "").startswith("chart-"), ET.tostring(node)
        assert "style=" not in svg


def test_a_share_is_that_share_of_the_width() -> None:
    (bar,) = of_class(parsed(share_bar(0.25)), "chart-bar")
    assert bar.get("width") == "25"


@given(st.floats(0, 1e15, allow_nan=False))
def test_axes_begin_at_zero_hold_the_largest_figure_and_have_few_even_steps(largest: float) -> None:
    for ticks in (number_ticks(largest), count_ticks(largest), duration_ticks(largest)):
        assert ticks[0] == 0
        assert ticks[-1] >= largest * (1 - 1e-9)
        assert 2 <= len(ticks) <= 6
        steps = {round((right - left) / ticks[-1], 9) for left, right in pairwise(ticks)}
        assert len(steps) == 1


@given(st.integers(0, 10**12))
def test_whole_things_have_whole_labels(largest: int) -> None:
    assert all(tick.is_integer() for tick in count_ticks(largest))


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0, [0, 1]),
        (3, [0, 1, 2, 3]),
        (9, [0, 5, 10]),
        (100, [0, 25, 50, 75, 100]),
        (730, [0, 200, 400, 600, 800]),
    ],
)
def test_counts(largest: float, ticks: list[float]) -> None:
    assert count_ticks(largest) == ticks


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (50, [0, 15, 30, 45, 60]),
        (3600, [0, 900, 1800, 2700, 3600]),
        (20_000, [0, 7200, 14_400, 21_600]),
        (300_000, [0, 86_400, 172_800, 259_200, 345_600]),
    ],
)
def test_durations(largest: float, ticks: list[float]) -> None:
    assert duration_ticks(largest) == ticks
