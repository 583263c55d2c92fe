"""The history: deterministic, in time order, and of the shape that the page says."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from benchmarks.generator import (
    DAYS,
    SYMBOLS,
    TAGS,
    USERS,
    active_sessions,
    add_archived,
    add_expired,
    generate,
    remove,
)
from benchmarks.history_sql import FUNCTIONS
from benchmarks.scale import Scale

ANCHOR = datetime(2026, 3, 29, 13, tzinfo=UTC)
SCALE = Scale(3_000)


def filled(conninfo: str, *, with_triggers: bool = True) -> psycopg.Connection[Any]:
    connection = psycopg.connect(conninfo, autocommit=True)
    generate(connection, SCALE, ANCHOR, with_triggers=with_triggers)
    return connection


def contents(connection: psycopg.Connection[Any]) -> list[Any]:
    return [
        connection.execute(
            f"select md5(string_agg(t::text, '|' order by t.id)) from {table} as t"
        ).fetchall()
        for table in ("sessions", "session_metrics")
    ]


def test_the_same_scale_and_anchor_give_the_same_rows_with_triggers_and_without(
    make_database: Callable[..., str], migrated_template: str
) -> None:
    with (
        filled(make_database(migrated_template)) as first,
        filled(make_database(migrated_template), with_triggers=False) as second,
    ):
        assert contents(first) == contents(second)
        changes = "select count(*) from analytics.session_changes"
        assert first.execute(changes).fetchall()[0][0] >= 2 * SCALE.sessions
        assert second.execute(changes).fetchall()[0][0] == 0


def test_the_history_has_the_shape_that_is_promised(migrated_database: str) -> None:
    with filled(migrated_database) as connection:

        def one(question: str, *parameters: object) -> tuple[Any, ...]:
            row = connection.execute(question.encode(), parameters).fetchone()
            assert row is not None
            return row

        assert one("select count(*) from session_metrics") == (SCALE.sessions,)
        assert one("select count(*) from sessions where is_archived") == (SCALE.sessions,)
        assert active_sessions(SCALE) == 9
        assert one(
            "select count(*) from sessions where not is_archived and expires_at > %s", ANCHOR
        ) == (9,)
        begin, end, archived = one(
            "select min(created_at), max(created_at), max(recorded_at) from session_metrics"
        )
        assert ANCHOR - timedelta(days=DAYS) <= begin < ANCHOR - timedelta(days=DAYS - 1)
        assert ANCHOR - timedelta(days=1) < end <= archived <= ANCHOR
        assert one(
            "select bool_and(created_at >= before) from "
            "(select created_at, lag(created_at) over (order by id) as before "
            "from session_metrics) as ordered"
        ) == (True,)
        assert one("select count(distinct session_type) from session_metrics") == (5,)
        assert one(
            "select count(distinct key) from session_metrics, "
            "jsonb_object_keys(query_type_summary) as key"
        ) == (8,)
        assert one(
            "select bool_and(total_queries = (select coalesce(sum(value::integer), 0) "
            "from jsonb_each_text(query_type_summary))) from session_metrics"
        ) == (True,)
        # A symbol stands once in a session, as the store would have written it.
        assert one(
            "select bool_and(jsonb_array_length(assets_analyzed) = (select count(distinct name) "
            "from jsonb_array_elements_text(assets_analyzed) as name)) from session_metrics"
        ) == (True,)


@pytest.mark.parametrize(
    ("ranks", "blunt", "share"), [(USERS, 6.1, 0.0188), (SYMBOLS, 2.0, 0.052), (TAGS, 2.0, 0.073)]
)
def test_the_first_of_the_popular_has_its_share_and_every_rank_is_in_range(
    empty_database: str, ranks: int, blunt: float, share: float
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(FUNCTIONS.encode())
        found = connection.execute(
            """
            select avg((rank = 1)::integer)::float, min(rank), max(rank)
            from generate_series(1, 100000) as number
            cross join lateral pg_temp.rank(pg_temp.lot(number, 3), %s, %s) as rank
            """,
            [ranks, blunt],
        ).fetchone()
    assert found is not None
    assert found[0] == pytest.approx(share, rel=0.1)
    assert found[1] == 1
    assert 0.9 * ranks < found[2] <= ranks


def test_what_arrives_is_taken_out_again_without_a_trace(migrated_database: str) -> None:
    with filled(migrated_database) as connection:
        before = contents(connection)
        ids = add_archived(
            connection, range(10**9, 10**9 + 50), ANCHOR - timedelta(hours=1), ANCHOR, user_id="me"
        )
        assert len(ids) == 50
        recorded = connection.execute(
            "select count(*) from session_metrics where user_id = 'me' and session_id = any(%s)",
            [ids],
        ).fetchall()
        assert recorded == [(50,)]
        remove(connection, ids)
        assert contents(connection) == before


def test_what_has_expired_is_archived_with_the_queries_of_its_history(
    migrated_database: str,
) -> None:
    now = datetime.now(UTC)
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        add_expired(connection, range(10**9, 10**9 + 50), now - timedelta(hours=2), now)
        archived = connection.execute(
            "select archived, quarantined from analytics.archive_expired_sessions(1000)"
        ).fetchall()
        queries = connection.execute(
            "select count(*), min(total_queries), max(total_queries) from session_metrics"
        ).fetchall()
    # A session that began in the last second has not expired yet.
    assert archived[0][0] >= 49
    assert archived[0][1] == 0
    assert queries == [(archived[0][0], 5, 5)]
