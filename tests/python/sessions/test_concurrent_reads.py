"""Readers beside writers, archivals, folds and rebuilds that really run at the same time."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sessions.churn import (
    DELETE,
    INSERT,
    TYPES,
    UPDATE,
    USERS,
    Churn,
    building,
    check_read,
    is_of_one_instant,
)

from fiml.sessions import queries
from fiml.sessions.reading import read_stats
from fiml.sessions.serving import ServingCache
from fiml.warehouse.fold import fold, fold_together, open_window
from fiml.warehouse.project import Mart

pytestmark = pytest.mark.anyio

SECONDS = 20.0

# Of these there are always as many: rows are replaced by as many others.
KEPT_METRICS = 300
KEPT_SESSIONS = 20
KEEP = """
insert into sessions (id, user_id, type, created_at, expires_at)
select gen_random_uuid(), 'kept', 'equity', now(), '2100-01-01'
from generate_series(1, %s)
"""
FLIP = """
update sessions set type = %(type)s, user_id = %(user)s
where id in (select id from sessions order by random() limit %(rows)s)
"""
# Dated before any reader that can see it begins.
REPLACEMENT = INSERT.replace("now() -", "now() - interval '1 hour' -")


def replacing(seed: int) -> Callable[[psycopg.Connection[Any]], str]:
    choose = random.Random(seed)

    def step(connection: psycopg.Connection[Any]) -> str:
        what = choose.choice(["replace", "replace", "update", "flip"])
        given = {
            "user": choose.choice(USERS),
            "type": choose.choice(TYPES),
            "rows": choose.randint(1, 12),
        }
        if what == "replace":
            with connection.transaction():
                given["rows"] = connection.execute(DELETE, given).rowcount
                connection.execute(REPLACEMENT.replace(" % ", " %% "), given)
        else:
            connection.execute({"update": UPDATE, "flip": FLIP}[what], given)
        return what

    return step


def folding(marts: tuple[Mart, ...]) -> Callable[[psycopg.Connection[Any]], str]:
    """As the process does that folds every second, without the pauses."""
    runs = iter(range(1_000_000))

    def step(connection: psycopg.Connection[Any]) -> str:
        run_id = f"fold {next(runs)}"
        open_window(connection, run_id)
        folded = fold_together(connection, marts, run_id)
        connection.execute("select analytics.prune_changes('0')")
        return "folded" if folded else "others fold"

    return step


@pytest.fixture
def churn() -> Iterator[Churn]:
    with ExitStack() as stack:
        churn = Churn()
        stack.callback(churn.end)
        yield churn


@pytest.fixture
def writer(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


def insert(connection: psycopg.Connection[Any], rows: int) -> None:
    connection.execute(
        INSERT.replace(" % ", " %% "), {"user": "ann", "type": "equity", "rows": rows}
    )


async def test_the_serving_layer_is_read_at_one_instant_in_one_statement_and_no_transaction(
    migrated_database: str,
    marts: tuple[Mart, ...],
    writer: psycopg.Connection[Any],
    churn: Churn,
) -> None:
    wanted = {"folded": 20, "rebuild": 2, "replace": 20, "update": 10, "flip": 10}
    deadline = time.monotonic() + SECONDS
    reads: Counter[str] = Counter()
    writer.execute(KEEP, [KEPT_SESSIONS])
    given = {"user": "ann", "type": "equity", "rows": KEPT_METRICS}
    writer.execute(REPLACEMENT.replace(" % ", " %% "), given)
    # Rows of the layer are merged every few folds, not after hundreds.
    row = writer.execute(
        "select pg_get_functiondef(oid) from pg_proc where proname = 'is_merge_due'"
    ).fetchone()
    assert row is not None
    writer.execute(row[0].replace("1500", "80"))
    writer.execute("select analytics.set_serving_layout(heavy_user_sessions => 20)")
    fold(writer, marts, "first")

    def is_over() -> bool:
        return (
            (reads["serving"] >= 300 and churn.has_done(wanted, times=2))
            or bool(churn.failures)
            or time.monotonic() > deadline
        )

    async def read(number: int, cache: ServingCache) -> None:
        choose = random.Random(number)
        async with await psycopg.AsyncConnection.connect(
            migrated_database, autocommit=True, prepare_threshold=0
        ) as reader:
            while not is_over():
                question = {
                    "user_id": choose.choice([None, None, None, "ann"]),
                    "session_type": None,
                    "days": choose.choice([1, 30, 3650]),
                }
                found = await read_stats(reader, **question, include_meta=True, cache=cache)
                reads[found.pop("meta")["path"]] += 1
                assert is_of_one_instant(found), found
                if question["user_id"] is None:
                    assert found["active_sessions"] == KEPT_SESSIONS, found
                    if question["days"] == 3650:
                        assert found["total_sessions"] == KEPT_METRICS, found

    for seed in (1, 2):
        churn.start(migrated_database, replacing(seed))
    churn.start(migrated_database, folding(marts))
    churn.start(migrated_database, building(marts))
    shared = ServingCache()
    await asyncio.gather(*(read(number, shared) for number in range(4)))
    churn.end()
    assert churn.has_done(wanted), churn.done
    assert reads["serving"] >= 100, reads


PAUSE = "if etag is distinct from known_etag then"


def wait_for_pause(observer: psycopg.Connection[Any]) -> None:
    while not observer.execute(
        "select from pg_stat_activity where wait_event = 'advisory' "
        "and datname = current_database()"
    ).fetchall():
        pass


@pytest.mark.parametrize("volatility", ["stable", "volatile"])
async def test_only_one_snapshot_keeps_a_fold_in_the_middle_of_a_read_out(
    migrated_database: str,
    marts: tuple[Mart, ...],
    writer: psycopg.Connection[Any],
    volatility: str,
) -> None:
    """The control: a function that is volatile sees what is committed while it runs."""
    name, definition = writer.execute(
        "select oid::regprocedure::text, pg_get_functiondef(oid) from pg_proc "
        "where proname = 'read_window'"
    ).fetchone() or ("", "")
    assert definition.count(PAUSE) == 1
    writer.execute(
        definition.replace(
            PAUSE, f"perform pg_advisory_lock(1); perform pg_advisory_unlock(1); {PAUSE}"
        )
    )
    writer.execute(f"alter function {name} {volatility}")
    insert(writer, 6)
    fold(writer, marts, "before")
    insert(writer, 3)
    writer.execute("select pg_advisory_lock(1)")
    question = {"user_id": None, "session_type": None, "days": 3650}
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as reader:
        reading = asyncio.create_task(read_stats(reader, **question, path="serving"))
        with psycopg.connect(migrated_database, autocommit=True) as observer:
            await asyncio.to_thread(wait_for_pause, observer)
        insert(writer, 4)
        fold(writer, marts, "meanwhile")
        writer.execute("select pg_advisory_unlock(1)")
        found = await reading
    assert (found["total_sessions"] == 6 + 3) is (volatility == "stable")


async def test_a_build_that_ends_in_the_middle_of_a_read_does_not_change_its_answer(
    migrated_database: str, marts: tuple[Mart, ...], writer: psycopg.Connection[Any]
) -> None:
    runs = iter(range(100))

    def build() -> None:
        insert(writer, 7)
        fold(writer, marts, f"run {next(runs)}")
        writer.execute("select analytics.prune_changes('0')")

    def rebuild() -> None:
        writer.execute("select analytics.request_rebuild()")
        build()

    question = {"user_id": None, "session_type": None, "days": 3650}
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as reader:
        with psycopg.connect(migrated_database, autocommit=True) as oracle:
            for before, meanwhile in ((0, build), (7, build), (14, rebuild)):
                found = await check_read(reader, oracle, question, meanwhile)
                assert found["total_sessions"] == before
                assert is_of_one_instant(found)


@pytest.mark.parametrize("is_one_snapshot", [True, False])
async def test_only_one_snapshot_keeps_a_commit_between_two_statements_out(
    migrated_database: str, writer: psycopg.Connection[Any], is_one_snapshot: bool
) -> None:
    """The control: what reads statement by statement is caught by the check used above."""
    question = queries.mart_question(has_type=False)
    parameters = {"as_of": None, "days": 3650, "session_type": None, "is_source_only": False}
    insert(writer, 3)
    with psycopg.connect(migrated_database, autocommit=True, row_factory=dict_row) as reader:
        if is_one_snapshot:
            reader.execute(queries.BEGIN)
        stats = reader.execute(question.stats, parameters).fetchall()
        insert(writer, 4)
        assets = reader.execute(question.assets, parameters).fetchall()
        query_types = reader.execute(question.query_types, parameters).fetchall()
        tags = reader.execute(question.tags, parameters).fetchall()
        reader.rollback()
    torn = {
        "total_sessions": sum(row["sessions"] for row in stats),
        "total_queries": sum(row["queries"] for row in stats),
        "session_type_breakdown": {row["session_type"]: row["sessions"] for row in stats},
        "top_assets": [{"count": row["occurrences"]} for row in assets],
        "popular_tags": [{"count": row["occurrences"]} for row in tags],
        "query_type_distribution": {row["name"]: row["occurrences"] for row in query_types},
    }
    assert torn["total_sessions"] == 3
    assert is_of_one_instant(torn) is is_one_snapshot
