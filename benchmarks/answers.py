"""The documented dictionary from rows of counts, for everybody who is not the project's reader.

Written apart from the reader on purpose: equal answers shall mean something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, TypeAlias

from benchmarks.questions import Question

__all__ = ["Answer", "Part", "Tally", "difference", "tally_of"]

Answer: TypeAlias = dict[str, Any]
# A part of an answer, a name in it, and its counts: sessions or occurrences, queries, seconds,
# abandoned. The SQL contenders all return such rows.
Part: TypeAlias = tuple[str, str, int, int, int, int]

_TOP: Final = 10
_MESSAGE: Final = "No session metrics available yet. Create sessions to start tracking analytics."


@dataclass(slots=True)
class Tally:
    """The counts that an answer is made of."""

    queries: int = 0
    duration_seconds: int = 0
    abandoned: int = 0
    active: int = 0
    archived: int = 0
    types: Counter[str] = field(default_factory=Counter)
    assets: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    query_types: Counter[str] = field(default_factory=Counter)

    def answer(self, question: Question) -> Answer:
        """The documented dictionary."""
        sessions = self.types.total()
        answer: Answer = {
            "status": "success",
            "total_sessions": sessions,
            "active_sessions": self.active,
            "archived_sessions": self.archived,
            "total_queries": self.queries,
            "avg_duration_seconds": _half_up(self.duration_seconds, sessions, "0.01"),
            "avg_queries_per_session": _half_up(self.queries, sessions, "0.01"),
            "abandonment_rate": _half_up(self.abandoned, sessions, "0.0001"),
            "period_days": question.days,
            "user_id": question.scope.user_id,
            "session_type": question.scope.session_type,
            "top_assets": [
                {"symbol": name, "count": count} for name, count in _ordered(self.assets)[:_TOP]
            ],
            "query_type_distribution": dict(_ordered(self.query_types)),
            "session_type_breakdown": dict(_ordered(self.types)),
            "popular_tags": [
                {"tag": name, "count": count} for name, count in _ordered(self.tags)[:_TOP]
            ],
        }
        if sessions == 0:
            answer["message"] = _MESSAGE
        return answer


def tally_of(rows: Iterable[Part]) -> Tally:
    """Sort the rows of a contender's statement into the parts of an answer."""
    tally = Tally()
    for part, name, count, queries, seconds, abandoned in rows:
        if part == "type":
            tally.types[name] = count
            tally.queries += queries
            tally.duration_seconds += seconds
            tally.abandoned += abandoned
        elif part == "asset":
            tally.assets[name] = count
        elif part == "tag":
            tally.tags[name] = count
        elif part == "query_type":
            tally.query_types[name] = count
        elif part == "archived":
            tally.archived = count
        else:
            tally.active = count
    return tally


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """The first figure in which two answers differ, in words; None where they are the same.

    Names must come in the same order, too, and a figure must have the same type.
    """
    if list(found) != list(expected):
        return f"keys {list(found)} instead of {list(expected)}"
    for key, value in expected.items():
        other = found[key]
        if other != value or type(other) is not type(value):
            return f"{key} is {other!r} instead of {value!r}"
        if isinstance(value, dict) and list(other) != list(value):
            return f"{key} is in the order {list(other)} instead of {list(value)}"
    return None


def _half_up(total: int, count: int, step: str) -> float:
    if count == 0:
        return 0.0
    return float((Decimal(total) / count).quantize(Decimal(step), ROUND_HALF_UP))


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))
