"""What the statements of the reader look at: an index each, and few rows."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from migrations.ground import DOCUMENTED_DDL, Connection, build, connected, value, write
from psycopg import sql

from fiml.sessions import queries
from fiml.sessions.migrations import migrate
from fiml.warehouse.project import Mart

PARAMETERS = {
    "as_of": "timestamptz",
    "days": "integer",
    "user_id": "text",
    "session_type": "text",
    "include_meta": "boolean",
    "is_source_only": "boolean",
    "etag": "bigint",
    "since": "timestamptz",
    "until": "timestamptz",
}

LARGE_TABLES = {"sessions", "session_metrics", "session_changes", "session_totals"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def generic_plan(
    connection: Connection, statement: str, given: dict[str, object]
) -> list[dict[str, Any]]:
    """The nodes of the plan that a pooled connection of the reader keeps for a statement."""
    numbered = re.sub(
        r"%\((\w+)\)s", lambda found: f"${list(PARAMETERS).index(found[1]) + 1}", statement
    )
    assert "%" not in numbered
    connection.execute("deallocate all")
    connection.execute(f"prepare reading ({', '.join(PARAMETERS.values())}) as {numbered}".encode())
    row = connection.execute(
        sql.SQL("explain (format json, costs off) execute reading ({})").format(
            sql.SQL(", ").join(sql.Literal(given.get(name)) for name in PARAMETERS)
        )
    ).fetchone()
    assert row is not None
    explained = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return list(nodes(explained[0]["Plan"]))


@pytest.fixture(scope="module")
def large_database(server: Any, marts: tuple[Mart, ...]) -> Iterator[Connection]:
    """Fifty thousand sessions over a hundred days, migrated, built and added to; only to be read.

    Of a user with two thousand of them, who has totals of his own, and of 2500 others.
    """
    name = server.create_database()
    conninfo = server.conninfo(name)
    with ExitStack() as stack:
        stack.callback(server.drop_database, name)
        connection = stack.enter_context(connected(conninfo))
        connection.execute(DOCUMENTED_DDL.encode())
        connection.execute(
            """
            insert into sessions (id, user_id, type, tags, is_archived, archived_at)
            select
                gen_random_uuid(),
                case when mod(number, 25) = 0 then 'heavy' else 'user ' || mod(number, 2500) end,
                (array['equity', 'crypto', 'macro'])[1 + mod(number, 3)], '["tech"]',
                mod(number, 20) <> 1, now() - number * interval '170 seconds'
            from generate_series(1, 50000) as number
            """
        )
        connection.execute(
            """
            insert into session_metrics (
                session_id, user_id, session_type, created_at, duration_seconds, total_queries,
                assets_analyzed, query_type_summary
            )
            select
                id, user_id, type, archived_at - interval '1 hour', 60, 3, '["AAPL"]',
                '{"price": 3}'
            from sessions
            """
        )
        migrate(conninfo)
        connection.execute(
            "update sessions set expires_at = now() + interval '1 h' where not is_archived"
        )
        connection.execute("update serving.layout set heavy_user_sessions = 2000")
        build(conninfo, marts)
        # The feed is long, and few of it unseen.
        connection.execute(
            "update session_metrics set total_queries = 4 where tags is not null "
            "and created_at < now() - interval '80 days'"
        )
        build(conninfo, marts, "another")
        write(connection, "user 7")
        connection.execute("vacuum analyze")
        connection.execute("set jit = off")
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.prepare_threshold = None
        yield connection


def expected_indexes(statement: str, *, has_user: bool) -> list[set[str]]:
    """Of each set one index is used."""
    if statement == "active":
        return [{"idx_sessions_open"}]
    if has_user:
        metrics, archivals = {"idx_session_metrics_user_created"}, {"idx_sessions_user_archived_at"}
    else:
        metrics = {"idx_session_metrics_created_at", "idx_session_metrics_type_created"}
        archivals = {"idx_sessions_archived_at"}
    if statement == "user_window":
        return [metrics, archivals, {"idx_sessions_user_open"}]
    return [metrics, archivals] if statement in ("stats", "meta") else [metrics]


def statements(*, has_user: bool, has_type: bool) -> dict[str, str]:
    """All that the reader asks without a function, by what it answers."""
    found = {
        "session_metrics_rows": queries.session_metrics_rows(has_user=has_user, has_type=has_type)
    }
    if has_user:
        return found | {"user_window": queries.USER_WINDOW[has_type, True, True]}
    question = queries.mart_question(has_type=has_type)
    return found | {name: getattr(question, name) for name in question.__slots__}


def test_no_read_scans_a_source_table(large_database: Connection) -> None:
    wrong = []
    for user_id in ("user 7", None):
        for session_type in ("macro", None):
            given = {
                "days": 1 if user_id is None else 30,
                "user_id": user_id,
                "session_type": session_type,
                "include_meta": True,
                "is_source_only": False,
                "since": datetime.now(UTC) - timedelta(days=1 if user_id is None else 30),
                "until": datetime.now(UTC),
            }
            for name, statement in statements(
                has_user=user_id is not None, has_type=session_type is not None
            ).items():
                plan = generic_plan(large_database, statement, given)
                scanned = {
                    node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"
                }
                used = {node["Index Name"] for node in plan if "Index Name" in node}
                if scanned & LARGE_TABLES or not all(
                    used & wanted for wanted in expected_indexes(name, has_user=user_id is not None)
                ):
                    wrong.append((name, user_id, session_type, scanned, used))
    assert wrong == []


def rows_read(connection: Connection) -> Counter[str]:
    """What the transaction under way has read so far, as the server counts it."""
    read: Counter[str] = Counter()
    for table, scans, rows in connection.execute(
        "select relname, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables "
        "where relname = any(%s)",
        [list(LARGE_TABLES)],
    ):
        read[f"{table} scanned"] += scans
        read[table] += rows
    return read


def test_a_window_of_any_length_is_a_few_rows_of_each_table(large_database: Connection) -> None:
    now, then = large_database.execute(
        "select now(), now() - interval '31 h 2 min 1 us'"
    ).fetchone()
    # What is dated after the end of a window has to be taken away row by row.
    beyond = value(
        large_database, "select count(*) from session_metrics where created_at >= %s", then
    )
    wrong = []
    for user_id, session_type in ((None, None), (None, "macro"), ("heavy", None)):
        for days in (1, 2, 7, 30, 90):
            for as_of in (now, then):
                with large_database.transaction():
                    before = rows_read(large_database)
                    question = {
                        "user_id": user_id,
                        "session_type": session_type,
                        "days": days,
                        "as_of": as_of,
                        # With it, those at the window's edges are looked at once more.
                        "include_meta": False,
                        "etag": None,
                    }
                    assert large_database.execute(queries.WINDOW, question).fetchall()
                    read = rows_read(large_database) - before
                most = 50 + (beyond if as_of == then else 0)
                allowed = {
                    "session_metrics": most,
                    "sessions": most,
                    "session_changes": 10,
                    "session_totals": 80,
                }
                if any(n > allowed.get(table, 0) for table, n in read.items()):
                    wrong.append((user_id, session_type, days, as_of, read))
    assert wrong == []
