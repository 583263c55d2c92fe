"""The four lists of names, each with its count and its share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from fiml.charts import share_bar
from fiml.sessions.session_types import SessionType
from fiml.web.figures import count, percent
from fiml.web.filters import Filters
from fiml.web.views import View

__all__ = ["ListRow", "NameList", "lists_of"]

_MOST_ROWS: Final = 10


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


def lists_of(view: View, filters: Filters) -> list[NameList]:
    """Assets, tags, query types and session types."""
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
