"""What reconciliation says of mistakes that are put into source or marts, and of clean cycles."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, LiteralString

import psycopg
from campaigns.campaign import Campaign
from campaigns.ground import Ground
from warehouse.application import leave_expired_sessions, record_metrics

from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.reconcile import reconcile

__all__ = ["CLEAN", "SEEDED"]

# With the triggers off, as a restore or another tool would write.
_UNSEEN: LiteralString = "set local session_replication_role = replica"
_FAULTS: dict[str, LiteralString] = {
    "a lost source row": """
        delete from session_metrics
        where session_id = (select session_id from session_metrics order by random() limit 1)
    """,
    "a source row that no fold has seen": """
        insert into session_metrics (session_id, session_type, created_at, duration_seconds)
        values (gen_random_uuid(), 'equity', now() - interval '1 hour', 60)
    """,
    "a source row of another type": """
        update session_metrics set session_type = 'wrong'
        where session_id = (select session_id from session_metrics order by random() limit 1)
    """,
    "a source row of another day": """
        update session_metrics set created_at = created_at - interval '1 day'
        where session_id = (select session_id from session_metrics order by random() limit 1)
    """,
    "a doubled mart row": """
        update marts.daily_session_stats set sessions = sessions * 2
        where ctid = (
            select ctid from marts.daily_session_stats where sessions > 0 order by random() limit 1
        )
    """,
    "a lost mart row": """
        delete from marts.daily_asset_counts
        where ctid = (select ctid from marts.daily_asset_counts order by random() limit 1)
    """,
    "a count one too high": """
        update marts.daily_tag_counts set occurrences = occurrences + 1
        where ctid = (select ctid from marts.daily_tag_counts order by random() limit 1)
    """,
    "a mart row under another name": """
        update marts.daily_query_type_counts set query_type = query_type || ' '
        where ctid = (select ctid from marts.daily_query_type_counts order by random() limit 1)
    """,
    "a user's row under another user": """
        update marts.daily_user_stats set user_key = gen_random_uuid()
        where ctid = (select ctid from marts.daily_user_stats order by random() limit 1)
    """,
    "a changed entry of the serving layer": """
        update serving.session_totals set queries = queries + 1
        where ctid = (
            select ctid from serving.session_totals
            where level = 'day' order by random() limit 1
        )
    """,
    "a lost row of the feed": """
        delete from analytics.session_changes
        where ctid = (
            select session_changes.ctid from analytics.session_changes
            inner join analytics.mart_states on mart_states.mart = 'daily_session_stats'
            where fact = 'metrics' and analytics.is_unseen(xid, mart_states.watermark)
            order by random() limit 1
        )
    """,
    "a moved watermark": """
        update analytics.watermarks set watermark = pg_current_snapshot()
        where mart = 'daily_session_stats'
    """,
}
# What is wrong in rows that are not folded yet.
_BEFORE_A_FOLD = ("a lost row of the feed", "a moved watermark")


def _live(connection: psycopg.Connection[Any], ground: Ground, choose: Random) -> None:
    """Some days of an application, folded now and then."""
    for number in range(choose.randint(1, 4)):
        record_metrics(connection, choose.randint(5, 60), days_ago=choose.randint(1, 30))
        leave_expired_sessions(connection, choose.randint(0, 10))
        connection.execute("select analytics.archive_expired_sessions(1000)")
        if choose.random() < 0.7:
            fold(connection, ground.marts, f"fold {number}")
        if choose.random() < 0.3:
            connection.execute(
                "delete from session_metrics where total_queries = %s", [choose.randint(0, 6)]
            )


def _seed_a_fault(ground: Ground, choose: Random) -> Counter[str]:
    fault = choose.choice(list(_FAULTS))
    with ground.database() as conninfo:
        settings = Settings(conninfo=conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            _live(connection, ground, choose)
            fold(connection, ground.marts, "all of it")
            if fault in _BEFORE_A_FOLD:
                record_metrics(connection, 20)
            assert reconcile(settings, all_days=True) == [], "a false alarm"
            with connection.transaction():
                connection.execute(_UNSEEN)
                assert connection.execute(_FAULTS[fault]).rowcount == 1, fault
        assert reconcile(settings, all_days=True), f"not found: {fault}"
    return Counter({fault: 1})


def _live_cleanly(ground: Ground, choose: Random) -> Counter[str]:
    with ground.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            _live(connection, ground, choose)
        for all_days in (False, True):
            assert reconcile(Settings(conninfo=conninfo), all_days=all_days) == []
    return Counter({"clean cycles": 1})


SEEDED = Campaign(
    name="faults-seeded",
    disturbance="a mistake in source, feed, marts or serving layer; reconciliation must find it",
    play=_seed_a_fault,
    rounds=100,
    short=12,
)
CLEAN = Campaign(
    name="clean-cycles",
    disturbance="none; reconciliation must find nothing",
    play=_live_cleanly,
    rounds=1_000,
    short=20,
)
