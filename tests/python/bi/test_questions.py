"""The ten questions of docs/bi.md: each answer is what Python makes of the raw rows."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from exactness.oracle import _is_rate, counts_in, names_in
from roles.installation import Installation

from fiml.sessions.roles import Purpose
from fiml.sessions.session_types import SessionType

PAGE = Path(__file__).resolve().parents[3] / "docs" / "bi.md"
SECTIONS = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
QUESTIONS = {
    int(section.partition(".")[0]): section.partition("```sql\n")[2].partition("```")[0]
    for section in SECTIONS
}
# Where a day begins elsewhere than in UTC, with clocks that are changed.
TIME_ZONES = ("UTC", "America/New_York", "Pacific/Auckland")

Answer = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Recorded:
    """One row of session_metrics, by the documented rules."""

    user_id: str | None
    session_type: str
    day: date
    queries: int
    seconds: int
    is_abandoned: bool
    assets: list[str]
    tags: list[str]
    query_types: dict[str, int]
    query_ms: Decimal | None
    cache_hit_rate: Fraction | None


def raw_rows(connection: psycopg.Connection[Any]) -> list[Recorded]:
    rows = connection.execute(
        """
        select
            user_id, session_type, created_at, total_queries, duration_seconds, abandoned,
            assets_analyzed::text, tags::text, query_type_summary::text, avg_query_time_ms,
            cache_hit_rate
        from session_metrics
        """
    ).fetchall()
    return [
        Recorded(
            user_id=user_id,
            session_type=session_type,
            day=created_at.astimezone(UTC).date(),
            queries=max(queries, 0),
            seconds=max(seconds, 0),
            is_abandoned=abandoned,
            assets=names_in(assets),
            tags=names_in(tags),
            query_types=counts_in(query_types),
            query_ms=rounded(Fraction(query_ms), 3)
            if query_ms is not None and _is_rate(query_ms, at_most=None)
            else None,
            cache_hit_rate=Fraction(rounded(Fraction(hits), 6))
            if _is_rate(hits, at_most=1)
            else None,
        )
        for (
            user_id,
            session_type,
            created_at,
            queries,
            seconds,
            abandoned,
            assets,
            tags,
            query_types,
            query_ms,
            hits,
        ) in rows
    ]


def rounded(value: Fraction, places: int) -> Decimal:
    """Half up, of what is not negative."""
    return Decimal(math.floor(value * 10**places + Fraction(1, 2))).scaleb(-places)


def ratio(part: int | Fraction, whole: int, places: int) -> Decimal | None:
    return rounded(Fraction(part) / whole, places) if whole else None


def between(rows: Iterable[Recorded], first: date, before: date) -> list[Recorded]:
    return [row for row in rows if first <= row.day < before]


def lately(rows: Iterable[Recorded], today: date, days: int = 28) -> list[Recorded]:
    return between(rows, today - timedelta(days), today)


def by_count(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0].encode()))


def by_type(rows: Iterable[Recorded]) -> list[tuple[str, list[Recorded]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row.session_type].append(row)
    return sorted(groups.items(), key=lambda item: item[0].encode())


def last_weeks(today: date) -> list[date]:
    monday = today - timedelta(today.weekday())
    return [monday - timedelta(number) for number in range(56, 0, -1)]


def sessions_of_weeks(rows: Sequence[Recorded], today: date) -> Answer:
    per_day = Counter(row.day for row in rows)
    weeks: Counter[str] = Counter()
    for day in last_weeks(today):
        year, week, _ = day.isocalendar()
        weeks[f"{year}-W{week:02}"] += per_day[day]
    labelled = sorted(weeks.items())
    changes = [None, *(this - before for (_, before), (_, this) in pairwise(labelled))]
    return [(*week, change) for week, change in zip(labelled, changes, strict=True)]


def abandonment(rows: Sequence[Recorded], today: date) -> Answer:
    def percent(some: list[Recorded]) -> Decimal | None:
        return ratio(100 * sum(row.is_abandoned for row in some), len(some), 1)

    return [
        (
            session_type,
            percent(lately(some, today)),
            percent(between(some, today - timedelta(56), today - timedelta(28))),
        )
        for session_type, some in by_type(lately(rows, today, 56))
    ]


def rising_assets(rows: Sequence[Recorded], today: date) -> Answer:
    this_week, week_before = (
        Counter(symbol for row in some for symbol in row.assets)
        for some in (
            lately(rows, today, 7),
            between(rows, today - timedelta(14), today - timedelta(7)),
        )
    )
    gains = Counter(
        {
            symbol: count - week_before[symbol]
            for symbol, count in this_week.items()
            if count > week_before[symbol]
        }
    )
    return [
        (symbol, this_week[symbol], week_before[symbol], gain)
        for symbol, gain in by_count(gains)[:10]
    ]


def users_of_months(rows: Sequence[Recorded], _today: date) -> Answer:
    months: dict[date, set[str]] = defaultdict(set)
    for row in rows:
        if row.user_id is not None:
            months[row.day.replace(day=1)].add(row.user_id)
    answer = []
    seen: set[str] = set()
    for month in sorted(months):
        users = months[month]
        before = months.get((month - timedelta(1)).replace(day=1), set())
        answer.append((month, len(users), len(users - seen), len(users & before)))
        seen |= users
    return answer


def dependence(rows: Sequence[Recorded], today: date) -> Answer:
    users = Counter(row.user_id for row in lately(rows, today) if row.user_id is not None)
    most = sum(count for _, count in users.most_common(10))
    return [(len(users), users.total(), most, ratio(100 * most, users.total(), 1))]


def length_and_queries(rows: Sequence[Recorded], today: date) -> Answer:
    known = {kind.value: kind.name.capitalize() for kind in SessionType}
    groups = dict(by_type(lately(rows, today)))
    every_type = known.keys() | {row.session_type for row in rows}
    answer = []
    for session_type in every_type:
        some = groups.get(session_type, [])
        answer.append(
            (
                known.get(session_type, f"{session_type} (unknown)"),
                len(some),
                ratio(sum(row.seconds for row in some), 60 * len(some), 1),
                ratio(sum(row.queries for row in some), len(some), 2),
            )
        )
    return sorted(answer, key=lambda row: (-row[1], row[0].encode()))


def query_types(rows: Sequence[Recorded], today: date) -> Answer:
    counted: Counter[str] = Counter()
    for row in lately(rows, today):
        counted.update(row.query_types)
    return [
        (name, count, ratio(100 * count, counted.total(), 1)) for name, count in by_count(counted)
    ]


def tags_of_types(rows: Sequence[Recorded], today: date) -> Answer:
    return [
        (session_type, place, tag, count)
        for session_type, some in by_type(lately(rows, today))
        for place, (tag, count) in enumerate(
            by_count(Counter(tag for row in some for tag in row.tags))[:3], start=1
        )
    ]


def weekdays(rows: Sequence[Recorded], today: date) -> Answer:
    per_day = Counter(row.day for row in rows)
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    return [
        (
            name,
            ratio(sum(per_day[day] for day in last_weeks(today) if day.weekday() == number), 8, 1),
        )
        for number, name in enumerate(names)
    ]


def answer_times(rows: Sequence[Recorded], today: date) -> Answer:
    answer = []
    for session_type, some in by_type(lately(rows, today)):
        times = sorted(row.query_ms for row in some if row.query_ms is not None)
        told = [(row.cache_hit_rate, row.queries) for row in some if row.cache_hit_rate is not None]
        hits = sum((rate * queries for rate, queries in told), Fraction())
        answer.append(
            (
                session_type,
                len(times),
                *(
                    times[math.ceil(share * len(times)) - 1] if times else None
                    for share in (0.5, 0.95)
                ),
                ratio(100 * hits, sum(queries for _, queries in told), 1),
            )
        )
    return answer


ORACLES: dict[int, Callable[[Sequence[Recorded], date], Answer]] = {
    1: sessions_of_weeks,
    2: abandonment,
    3: rising_assets,
    4: users_of_months,
    5: dependence,
    6: length_and_queries,
    7: query_types,
    8: tags_of_types,
    9: weekdays,
    10: answer_times,
}


@pytest.fixture(scope="module")
def rows(installation: Installation) -> list[Recorded]:
    with installation.connected() as connection:
        return raw_rows(connection)


def test_the_page_asks_ten_questions() -> None:
    assert list(QUESTIONS) == list(ORACLES) == list(range(1, 11))


@pytest.mark.parametrize("time_zone", TIME_ZONES)
@pytest.mark.parametrize("number", ORACLES)
def test_bi_is_answered_what_the_raw_rows_say(
    installation: Installation, rows: list[Recorded], number: int, time_zone: str
) -> None:
    with installation.connected(Purpose.BI) as bi, bi.transaction():
        bi.execute("select set_config('timezone', %s, true)", [time_zone])
        row = bi.execute("select (now() at time zone 'UTC')::date").fetchone()
        assert row is not None
        answer = bi.execute(QUESTIONS[number].encode()).fetchall()
    assert answer == ORACLES[number](rows, row[0])
    # An answer of nothing would agree with nothing.
    assert len(answer) >= (1 if number == 5 else 3)
