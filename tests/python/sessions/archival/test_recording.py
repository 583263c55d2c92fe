"""Metrics that are recorded before a session is archived, or without an archival."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb
from sessions.archival.ground import YESTERDAY, add_expired, assert_metrics_follow_from_the_history
from sessions.examples import Connection, value
from sessions.metrics_oracle import read_metrics

from fiml.sessions.models import QueryRecord, Session
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio


def record(database: Connection, session_id: UUID, fallback: dict[str, Any] | None = None) -> bool:
    return bool(
        value(
            database,
            "select analytics.record_session_metrics(%s, %s)",
            session_id,
            Jsonb(fallback or {}),
        )
    )


async def test_metrics_recorded_before_archival_follow_the_session_until_its_end(
    store: SessionStore, database: Connection
) -> None:
    session = await store.create_session(["AAPL"], "equity", tags=["a"])
    assert record(database, session.id)
    first = read_metrics(database)[session.id]
    assert (first.total_queries, first.completed_normally, first.abandoned) == (0, True, False)
    await store.add_query(session.id, QueryRecord(query_type="price"))
    assert record(database, session.id)
    assert read_metrics(database)[session.id].total_queries == 1

    await store.add_query(session.id, QueryRecord(query_type="news"))
    assert await store.archive_session(session.id)
    assert_metrics_follow_from_the_history(database)
    final = read_metrics(database)
    assert final[session.id].query_type_summary == {"price": 1, "news": 1}
    assert not record(database, session.id)
    assert read_metrics(database) == final


async def test_an_object_counts_only_where_the_database_has_no_such_session(
    store: SessionStore, database: Connection
) -> None:
    session = await store.create_session(["AAPL"], "equity", "analyst")
    forged = {"type": "macro", "assets": ["FORGED"], "user_id": "another"}
    assert record(database, session.id, forged)
    row = read_metrics(database)[session.id]
    assert (row.session_type, row.assets_analyzed, row.user_id) == ("equity", ["AAPL"], "analyst")


async def test_a_session_the_database_has_never_seen_is_recorded_from_the_object(
    database: Connection,
) -> None:
    session = Session(type="crypto", assets=["BTC"], tags=["a"], user_id="analyst")
    session.created_at -= timedelta(seconds=90)
    session.add_query(QueryRecord(query_type="price", execution_time_ms=5, cache_hit=True))
    data = session.to_dict()
    fallback = data | {"query_history": data["state"]["history"]["queries"]}
    for _ in range(2):
        assert record(database, session.id, fallback)
        (row,) = read_metrics(database).values()
        assert (row.session_id, row.user_id, row.session_type) == (session.id, "analyst", "crypto")
        assert (row.assets_analyzed, row.tags) == (["BTC"], ["a"])
        assert (row.total_queries, row.query_type_summary) == (1, {"price": 1})
        assert (row.completed_normally, row.abandoned) == (True, False)
        assert 90 <= row.duration_seconds < 390
    assert value(database, "select count(*) from sessions") == 0


async def test_metrics_of_a_session_archived_directly_in_sql_can_still_be_recorded(
    database: Connection,
) -> None:
    (session_id,) = add_expired(database, 1, is_archived="true", archived_at=YESTERDAY)
    assert record(database, session_id)
    assert not record(database, session_id)
    assert_metrics_follow_from_the_history(database)


async def test_a_record_behind_the_retention_horizon_says_that_nothing_was_written(
    database: Connection,
) -> None:
    (session_id,) = add_expired(database, 1)
    database.execute("update sessions set created_at = created_at - interval '3 days'")
    database.execute("update analytics.settings set horizon = date_trunc('day', now(), 'UTC')")
    assert not record(database, session_id)
    assert json.dumps(value(database, "select source_row from analytics.quarantine"))
