"""The single figures of an answer, as the page names, writes and draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from typing import Final

from fiml.charts import count_ticks, duration_ticks, number_ticks
from fiml.sessions.questions import Name, NameKind

__all__ = [
    "FIGURES",
    "NOW",
    "Better",
    "Figure",
    "change",
    "count",
    "duration",
    "figure_of_name",
    "percent",
    "ratio",
]

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


class Better(Enum):
    """Which way is the good one."""

    MORE = "more"
    LESS = "less"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        key: its name in an answer, or as `figure` of an address.
        label: its name on the page.
        written: as a person reads it.
        on_axis: the same, short.
        ticks: what an axis of it is labelled with.
        better: which way is the good one.
        name: the name that is counted, where it is one.
        counted: what a column of it is called; "" for its label.
    """

    key: str
    label: str
    written: Callable[[float], str]
    on_axis: Callable[[float], str]
    ticks: Callable[[float], list[float]]
    better: Better = Better.MORE
    name: str | None = None
    counted: str = ""


def count(value: float) -> str:
    """A whole number, in groups of three digits."""
    return f"{value:,.0f}"


def ratio(value: float) -> str:
    """To two places."""
    return f"{value:,.2f}"


def percent(fraction: float, places: int = 1) -> str:
    """A fraction of 1 in percent, rounded half-up."""
    # Of what is written, not of the binary fraction that stands for it.
    exact = Decimal(str(fraction)) * 100
    return (
        f"{exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)}\N{NO-BREAK SPACE}%"
    )


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill."""
    whole = int(Decimal(str(seconds)).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    for unit, length, smaller, part in (
        ("d", _DAY, "h", _HOUR),
        ("h", _HOUR, "min", _MINUTE),
        ("min", _MINUTE, "s", 1),
    ):
        if whole >= length:
            return _spaced(f"{whole // length} {unit} {whole % length // part} {smaller}")
    return _spaced(f"{whole} s")


def change(now: float, before: float) -> str | None:
    """How much more or less, in percent of before; None where there was nothing before."""
    if before == 0:
        return None
    relative = (Decimal(str(now)) - Decimal(str(before))) / Decimal(str(before)) * 100
    places = 0 if abs(relative) >= 10 else 1
    rounded = relative.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    return f"{abs(rounded):,}\N{NO-BREAK SPACE}%"


def _spaced(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _short_number(value: float) -> str:
    for suffix, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * size or (value >= size and value % size == 0):
            return f"{value / size:g}{suffix}"
    return f"{value:,g}"


def _short_duration(seconds: float) -> str:
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= length and (seconds / length * 2).is_integer():
            return _spaced(f"{seconds / length:g} {unit}")
    return _spaced(f"{seconds:g} s") if seconds else "0"


def _short_percent(fraction: float) -> str:
    return f"{fraction * 100:g}\N{NO-BREAK SPACE}%"


FIGURES: Final = (
    Figure("total_sessions", "Sessions", count, _short_number, count_ticks),
    Figure("total_queries", "Queries", count, _short_number, count_ticks),
    Figure("avg_queries_per_session", "Queries per session", ratio, _short_number, number_ticks),
    Figure(
        "avg_duration_seconds",
        "Average duration",
        duration,
        _short_duration,
        duration_ticks,
        Better.NEITHER,
    ),
    Figure("abandonment_rate", "Abandoned", percent, _short_percent, number_ticks, Better.LESS),
    Figure("archived_sessions", "Archived", count, _short_number, count_ticks, Better.NEITHER),
)
_KINDS: Final = {
    NameKind.ASSET: ("Asset", "Times"),
    NameKind.TAG: ("Tag", "Times"),
    NameKind.QUERY_TYPE: ("Query type", "Queries"),
}
# Known for the present alone: of no window, and of none before.
NOW: Final = Figure(
    "active_sessions", "Active now", count, _short_number, count_ticks, Better.NEITHER
)


def figure_of_name(name: Name) -> Figure:
    """How often a name counts, as a figure."""
    label, counted = _KINDS[name.kind]
    return Figure(
        f"{name.kind}:{name.name}",
        label,
        count,
        _short_number,
        count_ticks,
        Better.NEITHER,
        name.name,
        counted,
    )
