"""A view as what the templates write: every text, every chart, every address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from fiml.alerts import Episode
from fiml.charts import Point, line_chart, share_bar, sparkline
from fiml.sessions.session_types import SessionType
from fiml.web import calendar
from fiml.web.figures import FIGURES, NOW, Better, Figure, change, count, percent
from fiml.web.filters import Filters
from fiml.web.gate import Caller
from fiml.web.views import MartState, View

__all__ = ["Page", "present", "present_filters"]

# Width and height of the main chart, and the class that shows it where it fits.
_SIZES: Final = ((1080, 260, "wide"), (660, 240, "middle"), (360, 200, "narrow"))
_WINDOWS: Final = (
    ("24 hours", {"hours": 24}),
    ("7 days", {"days": 7}),
    ("30 days", {"days": 30}),
    ("90 days", {"days": 90}),
    ("12 months", {"days": 365}),
)
_MOST_ROWS: Final = 10
# A smaller change is neither good nor bad.
_NOTABLE_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Link:
    """Another view.

    Attributes:
        label: what it is called.
        address: where it is.
        is_current: whether it is this one.
    """

    label: str
    address: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class FilterForm:
    """What the view is about, and how to change that.

    Attributes:
        given: the parameters of the address.
        types: the session types.
        windows: usual windows.
        is_custom: whether the window is none of these.
        clear: the address without filters; None where there are none.
        may_see_users: whether the caller may ask for others.
        whose: whose figures these are.
        zone: the time zone's name.
    """

    given: dict[str, str]
    types: list[str]
    windows: list[Link]
    is_custom: bool
    clear: str | None
    may_see_users: bool
    whose: str
    zone: str


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


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """A period in the main chart's table.

    Attributes:
        start: ISO 8601.
        name: the period's.
        note: what is not whole about it.
        value, written: its figure.
        before, before_written: the figure of the period at the same place of the window before.
    """

    start: str
    name: str
    note: str
    value: float
    written: str
    before: float | None
    before_written: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The main chart and its table.

    Attributes:
        label: the figure's.
        period_name: what a row of the table is.
        drawings: the same in several widths.
        rows: of the table.
    """

    label: str
    period_name: str
    drawings: list[Markup]
    rows: list[PeriodRow]


@dataclass(frozen=True, slots=True)
class ListRow:
    """One name of a list.

    Attributes:
        name: as it is stored.
        value, written: how often.
        share: how large a part.
        bar: the same as a bar.
        address: the view of it alone, where the figures can be filtered by it.
        is_current: whether this view is that one.
    """

    name: str
    value: int
    written: str
    share: str
    bar: Markup
    address: str | None = None
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class NameList:
    """One of the four lists.

    Attributes:
        key, title: which one.
        what: what a row names.
        counted: what is counted.
        share_of: what its shares are of.
        rows: the first ones.
        more: how many are not among them.
    """

    key: str
    title: str
    what: str
    counted: str
    share_of: str
    rows: list[ListRow]
    more: int


@dataclass(frozen=True, slots=True)
class MartRow:
    """How far one mart is, in words."""

    name: str
    folded_at: str
    state: str
    is_well: bool


@dataclass(frozen=True, slots=True)
class State:
    """The state of the builds: a sentence, and each mart."""

    sentence: str
    is_well: bool
    rows: list[MartRow]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, in words.

    Attributes:
        message: what was found.
        severity: "info", "warning" or "critical".
        time: since when it holds, or from when to when it held.
        is_over: whether it has ended.
    """

    message: str
    severity: str
    time: str
    is_over: bool


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


def present_filters(filters: Filters, caller: Caller, user_id: str | None) -> FilterForm:
    """The form above a view, whether there is one or not."""
    given = filters.given
    windows = [
        Link(label, filters.window_address(**window), _is_window(given, window))
        for label, window in _WINDOWS
    ]
    own = caller.identity.subject if caller.identity is not None else None
    if user_id is None:
        whose = "Everybody"
    else:
        whose = "Your own sessions" if user_id == own else f"User {user_id}"
    has_filters = bool(given.keys() & {"user", "type"})
    return FilterForm(
        given=given,
        types=[known.value for known in SessionType],
        windows=windows,
        is_custom=not any(link.is_current for link in windows),
        clear=filters.address(user=None, type=None) if has_filters else None,
        may_see_users=caller.may_see_users,
        whose=whose,
        zone=filters.subject.zone.key,
    )


def present(view: View, filters: Filters) -> Page:
    """A view in words and pictures."""
    stats = view.stats
    figure = next(known for known in FIGURES if known.key == filters.figure)
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
        tiles=[*(_tile(view, filters, known) for known in FIGURES), *_now_tile(view)],
        chart=_chart(view, figure),
        lists=_lists(view, filters),
        alerts=None if view.subject.user_id else [_alert(view, one) for one in view.alerts],
        state=_state(view),
    )


def _is_window(given: dict[str, str], window: dict[str, int]) -> bool:
    named = {
        name: given[name]
        for name in ("days", "hours", "since", "until", "through")
        if name in given
    }
    return (named or {"days": "30"}) == {name: str(value) for name, value in window.items()}


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
        is_current=figure.key == filters.figure,
        spark=Markup(sparkline(_points(view.series, figure))),  # noqa: S704 - it is ours, escaped
    )


def _now_tile(view: View) -> list[Tile]:
    active = view.stats[NOW.key]
    if active is None:
        return []
    return [Tile(key=NOW.key, label=NOW.label, value=active, written=NOW.written(active))]


def _direction(view: View, figure: Figure, now: float, before: float) -> tuple[str, str]:
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
        Point(
            label="",
            value=_value(period, figure),
            is_partial=period["is_partial"],
        )
        for period in series["periods"]
    ]


def _value(period: dict[str, Any], figure: Figure) -> float | None:
    """The figure of a period; of no session at all there is no average."""
    is_average = figure.key in {
        "avg_queries_per_session",
        "avg_duration_seconds",
        "abandonment_rate",
    }
    if is_average and not period["total_sessions"]:
        return None
    value: float = period[figure.key]
    return value


def _chart(view: View, figure: Figure) -> Chart:
    periods = view.series["periods"]
    # Both windows end with the same part of a period: they are laid upon each other from there.
    earlier: list[dict[str, Any] | None] = list(view.series_before["periods"][-len(periods) :])
    earlier = [*[None] * (len(periods) - len(earlier)), *earlier] if periods else []
    ghost = [None if period is None else _value(period, figure) for period in earlier]
    starts = [datetime.fromisoformat(period["period_start"]) for period in periods]
    points = [
        Point(
            calendar.short_period(start, view.grain),
            _value(period, figure),
            is_partial=period["is_partial"],
        )
        for start, period in zip(starts, periods, strict=True)
    ]
    title = f"{figure.label} by {view.grain}, and in the window before"
    drawings = [
        Markup(  # noqa: S704 - it is ours, escaped
            line_chart(
                points,
                ghost,
                title=title,
                width=width,
                height=height,
                ticks=figure.ticks,
                shown=figure.on_axis,
                class_=f"chart {name}",
            )
        )
        for width, height, name in _SIZES
    ]
    rows = [
        PeriodRow(
            start=period["period_start"],
            name=calendar.period(start, view.grain),
            note=_note(period),
            value=period[figure.key],
            written=figure.written(period[figure.key]),
            before=None if before is None else before[figure.key],
            before_written="" if before is None else figure.written(before[figure.key]),
        )
        for start, period, before in zip(starts, periods, earlier, strict=True)
    ]
    return Chart(figure.label, calendar.PERIOD_NAMES[view.grain], drawings, rows)


def _note(period: dict[str, Any]) -> str:
    if period["is_open"]:
        return "so far"
    return "in part" if period["is_partial"] else ""


def _lists(view: View, filters: Filters) -> list[NameList]:
    stats = view.stats
    sessions, queries = stats["total_sessions"], stats["total_queries"]
    assets = [(row["symbol"], row["count"]) for row in stats["top_assets"]]
    tags = [(row["tag"], row["count"]) for row in stats["popular_tags"]]
    kinds = list(stats["query_type_distribution"].items())
    types = list(stats["session_type_breakdown"].items())
    of_sessions, of_queries = "of sessions", "of queries"
    return [
        _list("assets", "Top assets", "Asset", "Times", assets, sessions, of_sessions),
        _list("tags", "Popular tags", "Tag", "Times", tags, sessions, of_sessions),
        _list("query-types", "Query types", "Query type", "Queries", kinds, queries, of_queries),
        _list(
            "session-types",
            "Session types",
            "Session type",
            "Sessions",
            types,
            sessions,
            of_sessions,
            filters,
        ),
    ]


def _list(
    key: str,
    title: str,
    what: str,
    counted: str,
    counts: list[tuple[str, int]],
    whole: int,
    share_of: str,
    filters: Filters | None = None,
) -> NameList:
    largest = max((occurrences for _, occurrences in counts), default=1)
    known = {session_type.value for session_type in SessionType}
    rows = [
        ListRow(
            name=name,
            value=occurrences,
            written=count(occurrences),
            share=percent(occurrences / whole) if whole else "",
            bar=Markup(share_bar(occurrences / largest)),  # noqa: S704 - it is ours
            # What an application calls a type need be none that can be asked for.
            address=_type_address(filters, name) if filters and name in known else None,
            is_current=filters is not None and filters.given.get("type") == name,
        )
        for name, occurrences in counts[:_MOST_ROWS]
    ]
    return NameList(key, title, what, counted, share_of, rows, max(0, len(counts) - _MOST_ROWS))


def _type_address(filters: Filters, name: str) -> str:
    return filters.address(type=None if filters.given.get("type") == name else name)


def _alert(view: View, episode: Episode) -> Alert:
    fired_at = calendar.instant(episode.fired_at, view.subject.zone)
    if episode.over_at is None:
        time = f"since {fired_at}"
    else:
        time = f"{fired_at} to {calendar.instant(episode.over_at, view.subject.zone)}"
    return Alert(episode.message, episode.severity, time, episode.over_at is not None)


def _state(view: View) -> State:
    zone = view.subject.zone

    def row(mart: MartState) -> MartRow:
        if not mart.is_usable:
            return MartRow(mart.mart, "", "not built here: answers come from the raw rows", False)  # noqa: FBT003
        state = "to be rebuilt" if mart.is_rebuild_requested else "built"
        folded_at = calendar.instant(mart.folded_at, zone) if mart.folded_at else ""
        return MartRow(mart.mart, folded_at, state, not mart.is_rebuild_requested)

    rows = [row(mart) for mart in view.marts]
    is_well = all(mart.is_well for mart in rows)
    waiting = "nothing is waiting"
    if view.unseen:
        changes = "change is" if view.unseen == 1 else "changes are"
        waiting = f"{view.unseen:,} {changes} not folded yet"
    if not is_well:
        sentence = "Some marts wait for a build; answers are right all the same, and slower."
    else:
        sentence = f"All {len(rows)} marts are built; {waiting}."
    return State(sentence, is_well, rows)
