"""The metrics that an archival makes of a session."""

from decimal import Decimal
from uuid import uuid4

import pytest
from sessions.archival.ground import add_expired, assert_metrics_follow_from_the_history
from sessions.archival.random_sessions import add_random_sessions
from sessions.examples import Connection, value
from sessions.metrics_oracle import read_metrics

from fiml.sessions.models import QueryRecord
from fiml.sessions.store import SessionStore

pytestmark = pytest.mark.anyio


async def test_the_metrics_of_any_history_are_what_an_independent_computation_says(
    store: SessionStore, database: Connection
) -> None:
    add_random_sessions(database, 600, seed=7)
    expired = value(database, "select count(*) from sessions where expires_at <= now()")
    assert await store.archive_expired_sessions() == expired
    assert value(database, "select count(*) from analytics.quarantine") == 0
    assert_metrics_follow_from_the_history(database)
    rest = database.execute("select id from sessions where not is_archived").fetchall()
    assert 0 < len(rest) == 600 - expired
    for (session_id,) in rest:
        assert await store.archive_session(session_id)
    assert_metrics_follow_from_the_history(database)


async def test_metrics_of_a_session_of_the_store(store: SessionStore, database: Connection) -> None:
    session = await store.create_session(["AAPL", "MSFT"], "equity", "analyst", tags=["tech"])
    for kind, time, is_hit in [("price", 10, True), ("price", 0.5, False), ("news", None, False)]:
        await store.add_query(
            session.id, QueryRecord(query_type=kind, execution_time_ms=time, cache_hit=is_hit)
        )
    assert await store.archive_session(session.id)
    row = read_metrics(database)[session.id]
    assert (row.user_id, row.session_type) == ("analyst", "equity")
    assert (row.assets_analyzed, row.tags) == (["AAPL", "MSFT"], ["tech"])
    assert row.total_queries == 3
    assert row.query_type_summary == {"price": 2, "news": 1}
    assert row.cache_hit_rate == Decimal("0.333333")
    assert row.avg_query_time_ms == Decimal("5.250")
    assert row.created_at == Decimal(str(session.created_at.timestamp()))
    assert_metrics_follow_from_the_history(database)


def test_how_a_session_ended_is_decided_to_the_microsecond(database: Connection) -> None:
    for expires, queries, is_expired, completed_normally, abandoned in [
        ("now()", 1, True, False, True),
        ("now()", 2, True, False, False),
        ("now() - interval '1 microsecond'", 0, True, False, True),
        ("now() + interval '1 microsecond'", 0, False, True, False),
        ("now() + interval '1 microsecond'", 2, False, True, False),
        ("null", 1, False, False, True),
        ("'infinity'", 0, False, True, False),
    ]:
        session_id = uuid4()
        # In one transaction, in which the time stands still.
        with database.transaction():
            database.execute(
                f"""
                insert into sessions (id, type, created_at, expires_at, total_queries)
                values (%s, 'equity', now() - interval '10.9 seconds', {expires}, %s)
                """,
                [session_id, queries],
            )
            archived = value(database, "select archived from analytics.archive_expired_sessions(9)")
            assert archived == int(is_expired)
            assert value(database, "select analytics.archive_session(%s)", session_id) != is_expired
        row = read_metrics(database)[session_id]
        assert (row.completed_normally, row.abandoned) == (completed_normally, abandoned)
        assert row.duration_seconds == 10


async def test_a_session_lasts_to_the_earlier_of_its_end_and_its_expiry(
    store: SessionStore, database: Connection
) -> None:
    add_expired(database, 3)
    await store.archive_expired_sessions()
    durations = sorted(row.duration_seconds for row in read_metrics(database).values())
    assert durations == [1, 2, 3]
