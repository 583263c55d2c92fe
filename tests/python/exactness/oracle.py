"""The answer, computed naively in Python from nothing but the two source tables.

Independent of the project's SQL on purpose: it reads whole tables in the snapshot of the connection
it is given and knows the documented rules, not how anything is stored beside them.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import psycopg
from psycopg.rows import dict_row

LARGEST_COUNT = 2**31 - 1
NAMES = ("top_assets", "query_type_distribution", "session_type_breakdown", "popular_tags")

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|[^"\[\]{}]+')
_OPENING, _CLOSING, _BRACKETS = frozenset("[{"), frozenset("]}"), frozenset("[]{}")


def read_source(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Both tables, every row, and the database's time, in the connection's transaction."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            select
                user_id, session_type, total_queries, duration_seconds, abandoned,
                completed_normally, cache_hit_rate, avg_query_time_ms,
                assets_analyzed::text as assets, query_type_summary::text as query_types,
                tags::text as tags, extract(epoch from created_at)::text as at
            from session_metrics
            """
        )
        metrics = cursor.fetchall()
        cursor.execute(
            """
            select
                user_id, type, is_archived, extract(epoch from archived_at)::text as archived_at,
                extract(epoch from expires_at)::text as expires_at
            from sessions
            """
        )
        sessions = cursor.fetchall()
        cursor.execute("select extract(epoch from transaction_timestamp())::text as now")
        now = cursor.fetchone()["now"]
    return {"metrics": metrics, "sessions": sessions, "now": now}


def expected_stats(
    source: dict[str, Any],
    *,
    user_id: str | None,
    session_type: str | None,
    days: int,
    as_of: datetime | None = None,
) -> dict[str, Any]:
    """The documented dictionary."""
    end = Decimal(source["now"]) if as_of is None else epoch(as_of)
    figures = expected_figures(
        source, end - days * 86_400, end, user_id=user_id, session_type=session_type
    )
    names = {name: figures.pop(name) for name in NAMES}
    answer: dict[str, Any] = {
        "status": "success",
        **figures,
        "period_days": days,
        "user_id": user_id,
        "session_type": session_type,
        **names,
    }
    if answer["total_sessions"] == 0:
        answer["message"] = (
            "No session metrics available yet. Create sessions to start tracking analytics."
        )
    return answer


def expected_figures(
    source: dict[str, Any],
    start: Decimal,
    end: Decimal,
    *,
    user_id: str | None,
    session_type: str | None,
) -> dict[str, Any]:
    """The eleven figures of what is dated in `[start, end)`; active are those active at its end."""
    window = _window(source["metrics"], start, end, user_id, session_type)
    meant = [
        row for row in source["sessions"] if _is_meant(row, row["type"], user_id, session_type)
    ]
    total = len(window)
    queries = sum(max(row["total_queries"], 0) for row in window)
    seconds = sum(max(row["duration_seconds"], 0) for row in window)
    abandoned = sum(row["abandoned"] for row in window)

    assets: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    query_types: Counter[str] = Counter()
    for row in window:
        assets.update(names_in(row["assets"]))
        tags.update(names_in(row["tags"]))
        query_types.update(counts_in(row["query_types"]))

    return {
        "total_sessions": total,
        "active_sessions": sum(
            not row["is_archived"]
            and row["expires_at"] is not None
            and Decimal(row["expires_at"]) > end
            for row in meant
        ),
        "archived_sessions": sum(
            row["is_archived"]
            and row["archived_at"] is not None
            and start <= Decimal(row["archived_at"]) < end
            for row in meant
        ),
        "total_queries": queries,
        "avg_duration_seconds": _half_up(seconds, total, "0.01"),
        "avg_queries_per_session": _half_up(queries, total, "0.01"),
        "abandonment_rate": _half_up(abandoned, total, "0.0001"),
        "top_assets": [{"symbol": name, "count": n} for name, n in _ordered(assets)[:10]],
        "query_type_distribution": dict(_ordered(query_types)),
        "session_type_breakdown": dict(_ordered(Counter(row["session_type"] for row in window))),
        "popular_tags": [{"tag": name, "count": n} for name, n in _ordered(tags)[:10]],
    }


def expected_count(
    source: dict[str, Any],
    start: Decimal,
    end: Decimal,
    *,
    kind: str,
    name: str,
    user_id: str | None,
    session_type: str | None,
) -> int:
    """How often one asset, tag or query type counts in what is dated in `[start, end)`."""
    window = _window(source["metrics"], start, end, user_id, session_type)
    if kind == "query_type":
        return sum(counts_in(row["query_types"]).get(name, 0) for row in window)
    column = {"asset": "assets", "tag": "tags"}[kind]
    return sum(names_in(row[column]).count(name) for row in window)


def expected_set_aside(
    source: dict[str, Any],
    *,
    user_id: str | None,
    session_type: str | None,
    days: int,
    as_of: datetime | None = None,
) -> int:
    """How many values in the window do not count."""
    end = Decimal(source["now"]) if as_of is None else epoch(as_of)
    return set_aside_between(
        source, end - days * 86_400, end, user_id=user_id, session_type=session_type
    )


def set_aside_between(
    source: dict[str, Any],
    start: Decimal,
    end: Decimal,
    *,
    user_id: str | None,
    session_type: str | None,
) -> int:
    """How many values of what is dated in `[start, end)` do not count."""
    return sum(map(set_aside_values, _window(source["metrics"], start, end, user_id, session_type)))


def set_aside_values(row: dict[str, Any]) -> int:
    """How many values of one row do not count."""
    set_aside = (row["total_queries"] < 0) + (row["duration_seconds"] < 0)
    # How a session ended excludes the other way; the figures know the abandoned ones.
    set_aside += row["abandoned"] and row["completed_normally"]
    set_aside += not _is_rate(row["cache_hit_rate"], at_most=1)
    set_aside += not _is_rate(row["avg_query_time_ms"], at_most=None)
    for text in (row["assets"], row["tags"]):
        value = _parsed(text)
        valid = len(names_in(text))
        set_aside += len(value) - valid if isinstance(value, list) else text is not None
    value = _parsed(row["query_types"])
    valid = len(counts_in(row["query_types"]))
    set_aside += len(value) - valid if isinstance(value, dict) else row["query_types"] is not None
    return set_aside


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal in values, in types, and in the order of what is ordered."""
    assert found == expected
    assert list(found) == list(expected)
    for ordered in ("query_type_distribution", "session_type_breakdown"):
        assert list(found[ordered].items()) == list(expected[ordered].items())
    for key, value in expected.items():
        assert type(found[key]) is type(value), key


def epoch(moment: datetime) -> Decimal:
    """Seconds since 1970, exact to the microsecond."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Decimal(since // timedelta(microseconds=1)) / 1_000_000


def _is_meant(
    row: dict[str, Any], kind: str, user_id: str | None, session_type: str | None
) -> bool:
    return (user_id is None or row["user_id"] == user_id) and (
        session_type is None or kind == session_type
    )


def _window(
    metrics: list[dict[str, Any]],
    start: Decimal,
    end: Decimal,
    user_id: str | None,
    session_type: str | None,
) -> list[dict[str, Any]]:
    return [
        row
        for row in metrics
        if _is_meant(row, row["session_type"], user_id, session_type)
        and start <= Decimal(row["at"]) < end
    ]


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        # Python refuses to make an int of thousands of digits.
        return json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except RecursionError:
        return json.loads(shallow(text, 1), parse_float=Decimal, parse_int=Decimal)


def shallow(text: str, levels: int) -> str:
    """JSON with everything taken out that is nested deeper: nobody looks there for a figure.

    PostgreSQL holds what is nested deeper than Python reads.
    """
    kept: list[str] = []
    depth = 0
    for token in _TOKENS.findall(text):
        depth += token in _OPENING
        if depth <= levels or (depth == levels + 1 and token in _BRACKETS):
            kept.append(token)
        depth -= token in _CLOSING
    return "".join(kept)


def _is_rate(text: str | None, at_most: int | None) -> bool:
    """Whether it is a plain decimal number in range, or nothing at all."""
    if text is None:
        return True
    whole, point, fraction = text.partition(".")
    is_plain = all(character in string.digits for character in whole + fraction)
    return (
        is_plain
        and 1 <= len(whole) <= 20
        and len(point) <= len(fraction) <= 25 * len(point)
        and (at_most is None or Decimal(text) <= at_most)
    )


def names_in(text: str | None) -> list[str]:
    """The names of a JSON array that count, in their order."""
    value = _parsed(text)
    if not isinstance(value, list):
        return []
    return [name for name in value if isinstance(name, str) and 1 <= len(name) <= 255]


def counts_in(text: str | None) -> dict[str, int]:
    """The members of a JSON object that count."""
    value = _parsed(text)
    if not isinstance(value, dict):
        return {}
    return {
        name: int(count)
        for name, count in value.items()
        if 1 <= len(name) <= 255
        and isinstance(count, Decimal)
        and 1 <= count <= LARGEST_COUNT
        and count == count // 1
    }


def _half_up(total: int, count: int, step: str) -> float:
    if count == 0:
        return 0.0
    with localcontext() as context:
        context.prec = 200
        return float((Decimal(total) / count).quantize(Decimal(step), ROUND_HALF_UP))


def _ordered(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0].encode()))
