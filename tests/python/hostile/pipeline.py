"""Malformed rows, straight into the tables: nothing stops, and what is set aside is counted.

The judge of what may be written at all is PostgreSQL: a twin of the tables, as the application
would have them without any trigger, takes or refuses each row first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from typing import Any

import psycopg
from exactness.moments import NOON
from exactness.oracle import counts_in, names_in, read_source, shallow
from exactness.world import World
from hostile.rows import METRICS, USERS, Row, good_rows
from psycopg import sql
from psycopg.rows import dict_row
from sessions.metrics_oracle import metrics_of, read_sessions

from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.health import Severity, examine
from fiml.sessions.store import SessionStore
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.reconcile import reconcile

# In one statement: its triggers see all of them, and a good one among them.
STATEMENT = 20
FIRST_GOOD_ID = 10**9

PLAIN = """
create schema plain;
create table plain.sessions (like sessions including defaults including indexes);
create table plain.session_metrics (
    like session_metrics including defaults including identity including indexes
);
"""
ARCHIVED = """
select
    session_metrics.session_id as id,
    extract(epoch from session_metrics.created_at)::text as created_at,
    session_metrics.duration_seconds, session_metrics.total_queries,
    session_metrics.cache_hit_rate, session_metrics.avg_query_time_ms,
    session_metrics.query_type_summary, session_metrics.completed_normally,
    session_metrics.abandoned,
    session_metrics.user_id is not distinct from sessions.user_id
    and session_metrics.session_type = sessions.type
    and session_metrics.assets_analyzed = sessions.assets
    and session_metrics.tags = sessions.tags as is_copied
from session_metrics
inner join sessions on sessions.id = session_metrics.session_id
where sessions.archived_at between now() - interval '1 hour' and now()
"""


@dataclass
class Written:
    """What became of rows.

    Attributes:
        refused: by PostgreSQL, or by the driver on the way to it; how many for which reason.
    """

    good: int = 0
    malformed: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def insert(connection: psycopg.Connection[Any], schema: str, rows: Sequence[Row]) -> None:
    columns = list(rows[0].values)
    row = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(columns)))
    connection.execute(
        sql.SQL("insert into {} ({}) values {}").format(
            sql.Identifier(schema, rows[0].table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([row] * len(rows)),
        ),
        [value for row in rows for value in row.values.values()],
    )


def written(world: World, rows: Sequence[Row], first_good: int) -> Written:
    """Write what PostgreSQL takes, in statements of several rows, each with a good one in it."""
    outcome = Written()
    writer = world.writers[0]
    taken = []
    for row in rows:
        try:
            insert(writer, "plain", [row])
        except psycopg.Error as error:
            outcome.refused[error.sqlstate or type(error).__name__] += 1
        except UnicodeEncodeError:
            outcome.refused["UnicodeEncodeError"] += 1
        else:
            taken.append(row)
    for statement in _statements(taken):
        if statement[0].table == METRICS:
            (good,) = good_rows(1, first_good + outcome.good)
            columns = statement[0].values
            statement.append(Row(METRICS, {name: good.values.get(name) for name in columns}))
            # Not null, and not what the test is about.
            statement[-1].values.update(
                cache_hit_rate="0.5", completed_normally="true", abandoned="false"
            )
            outcome.good += 1
        insert(writer, "public", statement)
    outcome.malformed = len(taken)
    return outcome


def _statements(rows: Sequence[Row]) -> Iterator[list[Row]]:
    # Sessions first: metrics that come without tags take those of their session.
    ordered = sorted(rows, key=lambda row: row.table == METRICS)
    for _, of_table in groupby(ordered, key=lambda row: row.table):
        remaining = list(of_table)
        while remaining:
            yield remaining[:STATEMENT]
            del remaining[:STATEMENT]


def check(world: World) -> None:
    """Every path of the reader equals the naive computation, what is set aside included."""
    for as_of, days in ((NOON, 1), (NOON, 90), (None, 3650)):
        world.check(as_of=as_of, days=days)
    for user_id in USERS:
        world.check(user_id=user_id, as_of=NOON, days=90)
    for session_type in ("equity", "macro"):
        world.check(session_type=session_type, as_of=NOON, days=90)
    world.check(user_id="ann", session_type="equity", days=3650)


def check_every_name(world: World) -> None:
    """The marts hold every name that counts, also those that no answer has room for."""
    source = read_source(world.oracle)["metrics"]
    rows = [row for row in source if Decimal(row["at"]).is_finite()]
    for mart, column, counted in (
        ("daily_asset_counts", "symbol", [names_in(row["assets"]) for row in rows]),
        ("daily_tag_counts", "tag", [names_in(row["tags"]) for row in rows]),
        ("daily_query_type_counts", "query_type", [counts_in(row["query_types"]) for row in rows]),
    ):
        expected: Counter[str] = Counter()
        for names in counted:
            expected.update(names)
        total = "queries" if column == "query_type" else "occurrences"
        found = world.oracle.execute(
            f"select {column}, sum({total})::bigint from marts.{mart} group by 1"
        ).fetchall()
        assert dict(found) == expected


def archive(world: World) -> int:
    """Archive what has expired; nothing may be set aside for good, and nothing be left."""
    archived = 0
    while True:
        row = world.builder.execute(
            "select archived, quarantined from analytics.archive_expired_sessions(50)"
        ).fetchone()
        assert row is not None
        assert row[1] == 0
        if row[0] == 0:
            break
        archived += row[0]
    left = "select from sessions where not is_archived and expires_at <= now()"
    assert world.builder.execute(left).rowcount == 0
    return archived


def check_archived(world: World, count: int) -> None:
    """The metrics of a malformed session are what the independent computation makes of it."""
    stored = read_sessions(world.builder)
    with world.builder.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(ARCHIVED).fetchall()
    assert len(found) == count
    for row in found:
        # Other columns may be no JSON that Python reads; that they are copied is told by is_copied.
        session = replace(
            stored[row["id"]],
            assets="[]",
            tags="[]",
            query_history=shallow(stored[row["id"]].query_history, 2),
        )
        expected = metrics_of(session)
        assert row["is_copied"]
        assert Decimal(row["created_at"]).compare(expected.created_at) == 0
        for name in (
            "duration_seconds",
            "total_queries",
            "query_type_summary",
            "completed_normally",
            "abandoned",
        ):
            assert row[name] == getattr(expected, name), name
        assert Decimal(row["cache_hit_rate"]) == expected.cache_hit_rate
        average = row["avg_query_time_ms"]
        assert (average if average is None else Decimal(average)) == expected.avg_query_time_ms


def read_through_the_library(world: World) -> None:
    """What another program stored can be read as an object, listed, exported and examined."""

    async def read() -> None:
        settings = Settings(conninfo=world.conninfo, timeout_seconds=60)
        ids = world.builder.execute("select id, user_id, type from sessions").fetchall()
        async with SessionStore(settings) as store:
            for session_id, user_id, session_type in ids:
                session = await store.get_session(session_id)
                assert session is not None
                assert (session.id, session.user_id) == (session_id, user_id)
                assert str(session.type) == session_type
                session.to_dict()
            for user_id in USERS:
                listed = await store.list_user_sessions(user_id, include_archived=True, limit=1000)
                assert len(listed) == sum(row[1] == user_id for row in ids)
            assert await SessionAnalytics(store).export_session_metrics("csv", days=3650)
        findings = await examine(settings)
        assert [finding for finding in findings if finding.severity is Severity.ERROR] == []

    asyncio.run(read())


def play(world: World, rows: Sequence[Row]) -> Written:
    """Write, fold, read, archive and rebuild malformed rows; every check after each of these."""
    world.writers[0].execute(PLAIN)
    half = len(rows) // 2
    earlier = written(world, rows[:half], FIRST_GOOD_ID)
    world.build()
    later = written(world, rows[half:], FIRST_GOOD_ID + earlier.good)
    check(world)

    archived = archive(world)
    check_archived(world, archived)
    check(world)
    world.build()
    check(world)
    check_every_name(world)
    world.check_incremental_equals_scratch()
    check(world)
    check_every_name(world)

    settings = Settings(conninfo=world.conninfo)
    build(settings)
    assert reconcile(settings, all_days=True) == []
    check(world)
    assert set(world.paths) == {"serving", "marts", "source"}

    good = earlier.good + later.good
    found = world.check(user_id="good", as_of=NOON, days=90)
    assert found["total_sessions"] == good
    assert found["top_assets"] == [{"symbol": "GOOD", "count": good}]
    assert found["popular_tags"] == [{"tag": "good", "count": good}]
    assert found["query_type_distribution"] == {"good": 2 * good}
    read_through_the_library(world)

    total = Written(good, earlier.malformed + later.malformed, earlier.refused + later.refused)
    assert total.malformed + sum(total.refused.values()) == len(rows)
    # Else the generator has stopped to test anything, on one side or the other.
    assert len(rows) / 2 < total.malformed < len(rows) * 0.95
    assert archived > len(rows) / 20
    return total
