"""The four lists of names, each with its count and its share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from fiml.charts import share_bar
from fiml.sessions.questions import Name, NameKind
from fiml.sessions.session_types import SessionType
from fiml.web.figures import count, percent
from fiml.web.filters import Filters
from fiml.web.views import View

__all__ = ["ListRow", "NameList", "lists_of"]

_MOST_ROWS: Final = 10
# What a click does, and what it does again.
_IN_CHART: Final = ("Show it over time", "Show the sessions over time again")


@dataclass(frozen=True, slots=True)
class ListRow:
    """One name of a list.

    Attributes:
        name: as it is stored.
        value, written: how often.
        share: how large a part.
        bar: the same as a bar.
        address: where a click leads; None for nowhere.
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
        do, undo: what a click on a row does, and one on that of this view.
        rows: the first ones.
        more: how many are not among them.
    """

    key: str
    title: str
    what: str
    counted: str
    share_of: str
    do: str
    undo: str
    rows: list[ListRow]
    more: int


def lists_of(view: View, filters: Filters) -> list[NameList]:
    """Assets, tags, query types and session types."""
    stats = view.stats
    sessions, queries = stats["total_sessions"], stats["total_queries"]
    times: dict[str, Any] = {"counted": "Times", "whole": sessions, "share_of": "of sessions"}

    def in_chart(kind: NameKind) -> Callable[[str], tuple[str | None, bool]]:
        def lead(name: str) -> tuple[str | None, bool]:
            is_current = filters.subject.name == Name(kind, name)
            return filters.address(figure=None if is_current else f"{kind}:{name}"), is_current

        return lead

    def filtered(name: str) -> tuple[str | None, bool]:
        is_current = filters.given.get("type") == name
        # What an application calls a type need be none that can be asked for.
        known = name in set(SessionType)
        return filters.address(type=None if is_current else name) if known else None, is_current

    return [
        _list(
            "assets",
            "Top assets",
            "Asset",
            [(row["symbol"], row["count"]) for row in stats["top_assets"]],
            lead=in_chart(NameKind.ASSET),
            do=_IN_CHART,
            **times,
        ),
        _list(
            "tags",
            "Popular tags",
            "Tag",
            [(row["tag"], row["count"]) for row in stats["popular_tags"]],
            lead=in_chart(NameKind.TAG),
            do=_IN_CHART,
            **times,
        ),
        _list(
            "query-types",
            "Query types",
            "Query type",
            list(stats["query_type_distribution"].items()),
            counted="Queries",
            whole=queries,
            share_of="of queries",
            lead=in_chart(NameKind.QUERY_TYPE),
            do=_IN_CHART,
        ),
        _list(
            "session-types",
            "Session types",
            "Session type",
            list(stats["session_type_breakdown"].items()),
            lead=filtered,
            do=("Show this type alone", "Show all types"),
            **{**times, "counted": "Sessions"},
        ),
    ]


def _list(
    key: str,
    title: str,
    what: str,
    counts: list[tuple[str, int]],
    *,
    counted: str,
    whole: int,
    share_of: str,
    lead: Callable[[str], tuple[str | None, bool]],
    do: tuple[str, str],
) -> NameList:
    largest = max((occurrences for _, occurrences in counts), default=1)
    rows = [
        ListRow(
            name,
            occurrences,
            count(occurrences),
            percent(occurrences / whole) if whole else "",
            Markup(share_bar(occurrences / largest)),  # noqa: S704 - it is ours
            *lead(name),
        )
        for name, occurrences in counts[:_MOST_ROWS]
    ]
    more = max(0, len(counts) - _MOST_ROWS)
    return NameList(key, title, what, counted, share_of, *do, rows, more)
