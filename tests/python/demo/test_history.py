"""The sample history: the same every time, of a realistic shape, and archived as archival would."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from fiml.demo.history import DAYS, HEAVY_USER, SampleSession, generate, load
from fiml.sessions.migrations import migrate
from fiml.sessions.models import QueryRecord, SessionType

ANCHOR = datetime(2025, 3, 12, 14, tzinfo=UTC)
PACKAGES = Path(__file__).resolve().parents[3]

DIGEST = """
import hashlib, sys
from datetime import datetime
from fiml.demo.history import generate
history = generate(datetime.fromisoformat(sys.argv[1]), sessions=1500, seed=int(sys.argv[2]))
print(hashlib.sha256(repr(history).encode()).hexdigest())
"""


def _digest(anchor: datetime, seed: int) -> str:
    history = generate(anchor, sessions=1500, seed=seed)
    return hashlib.sha256(repr(history).encode()).hexdigest()


@pytest.fixture(scope="module")
def history() -> list[SampleSession]:
    return generate(ANCHOR)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_same_seed_and_anchor_give_the_same_rows_in_any_process(hash_seed: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", DIGEST, ANCHOR.isoformat(), "1"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "Asia/Tokyo"},
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == _digest(ANCHOR, 1)


def test_another_seed_or_anchor_gives_another_history() -> None:
    digests = {_digest(ANCHOR, 1), _digest(ANCHOR, 2), _digest(ANCHOR + timedelta(hours=1), 1)}
    assert len(digests) == 3


def test_it_is_of_the_promised_size(history: list[SampleSession]) -> None:
    users = {session.user_id for session in history} - {None}
    symbols = {symbol for session in history for symbol in session_names(session.assets)}
    tags = {tag for session in history for tag in session_names(session.tags)}
    assert len(history) == 40_000
    assert len({session.id for session in history}) == 40_000
    assert 1_400 <= len(users) <= 1_600
    assert 250 <= len(symbols) <= 320
    assert 55 <= len(tags) <= 65
    assert {session.type for session in history} == set(SessionType)
    assert ANCHOR - timedelta(days=DAYS) <= history[0].created_at
    assert history[-1].created_at < ANCHOR


def session_names(text: str) -> list[str]:
    return json.loads(text)


def session_queries(session: SampleSession) -> list[QueryRecord]:
    return [QueryRecord.model_validate(query) for query in json.loads(session.query_history)]


def test_a_few_users_and_symbols_have_most_of_it(history: list[SampleSession]) -> None:
    by_user = Counter(session.user_id for session in history if session.user_id)
    by_symbol = Counter(name for session in history for name in session_names(session.assets))
    assert by_user.most_common(1)[0][0] == HEAVY_USER
    assert 500 <= by_user[HEAVY_USER] <= 1_500
    assert sum(count for _, count in by_user.most_common(15)) > 0.15 * len(history)
    assert sum(count < 20 for count in by_user.values()) > 0.5 * len(by_user)
    assert sum(count for _, count in by_symbol.most_common(10)) > 0.25 * by_symbol.total()
    assert min(by_symbol.values()) < 100
    assert 0.05 < sum(session.user_id is None for session in history) / len(history) < 0.12


def test_it_grows_and_knows_weekends_and_nights(history: list[SampleSession]) -> None:
    middle = ANCHOR - timedelta(days=DAYS / 2)
    by_weekday = Counter(session.created_at.weekday() for session in history)
    by_hour = Counter(session.created_at.hour for session in history)
    assert sum(session.created_at >= middle for session in history) > 0.58 * len(history)
    assert by_weekday[5] < 0.6 * by_weekday[1]
    assert by_hour[4] < 0.3 * by_hour[15]


def test_sessions_end_in_every_way(history: list[SampleSession]) -> None:
    closed = [s for s in history if s.archived_at and s.archived_at < s.expires_at]
    expired = [s for s in history if s.archived_at and s.archived_at >= s.expires_at]
    waiting = [s for s in history if s.archived_at is None and s.expires_at <= ANCHOR]
    active = [s for s in history if s.archived_at is None and s.expires_at > ANCHOR]
    abandoned = [s for s in expired if s.total_queries < 2]
    assert 0.4 < len(closed) / len(history) < 0.6
    assert 0.1 < len(abandoned) / len(history) < 0.2
    assert len(waiting) == 600
    assert 60 <= len(active) <= 300
    # The archiver went away at one moment: nothing that expired after it is archived.
    assert max(s.expires_at for s in expired) <= min(s.expires_at for s in waiting)
    assert all(s.archived_at <= ANCHOR for s in closed + expired if s.archived_at)


@pytest.mark.parametrize("hours", range(0, 7 * 24, 13))
def test_there_are_active_and_expired_sessions_whenever_it_is_made(hours: int) -> None:
    anchor = ANCHOR + timedelta(hours=hours)
    small = [s for s in generate(anchor, sessions=4_000) if s.archived_at is None]
    # An hour may pass between the anchor and the load.
    active = sum(session.expires_at > anchor + timedelta(hours=1) for session in small)
    assert 2 <= active <= 40
    assert sum(session.expires_at <= anchor for session in small) == 60


def test_queries_follow_each_other_within_their_session(history: list[SampleSession]) -> None:
    kinds: Counter[str] = Counter()
    hits = 0
    for session in history[::40]:
        queries = session_queries(session)
        assert len(queries) == session.total_queries
        times = [session.created_at, *(query.timestamp for query in queries)]
        assert all(earlier < later for earlier, later in pairwise(times))
        assert times[-1] == session.last_accessed_at
        assert times[-1] <= min(session.expires_at, session.archived_at or ANCHOR, ANCHOR)
        kinds.update(query.query_type for query in queries)
        hits += sum(query.cache_hit for query in queries)
    assert len(kinds) == 8
    assert kinds.most_common(1)[0][0] == "price"
    assert 0.15 < hits / kinds.total() < 0.4


@pytest.fixture
def loaded(
    make_database: Callable[..., str],
) -> Iterator[tuple[psycopg.Connection[tuple[object, ...]], list[float]]]:
    """A connection to a database with a short history, and the progress that was reported."""
    conninfo = make_database()
    migrate(conninfo, "app")
    progress: list[float] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        load(connection, generate(ANCHOR, sessions=3_000), "app", on_progress=progress.append)
        yield connection, progress


def test_metrics_are_what_archival_computes(
    loaded: tuple[psycopg.Connection[tuple[object, ...]], list[float]],
) -> None:
    connection, progress = loaded
    differing = connection.execute(
        """
        select count(*)
        from app.sessions
        full join app.session_metrics on session_metrics.session_id = sessions.id
        left join lateral analytics.metrics_of(
            sessions.created_at, sessions.expires_at, sessions.query_history,
            sessions.total_queries, sessions.archived_at
        ) as metrics on sessions.is_archived
        where
            sessions.id is null
            or (session_metrics.id is not null) <> sessions.is_archived
            or sessions.is_archived <> (sessions.archived_at is not null)
            or (
                session_metrics.user_id, session_metrics.session_type, session_metrics.created_at,
                session_metrics.assets_analyzed, session_metrics.tags, session_metrics.recorded_at,
                session_metrics.duration_seconds, session_metrics.total_queries,
                session_metrics.cache_hit_rate, session_metrics.avg_query_time_ms,
                session_metrics.query_type_summary, session_metrics.completed_normally,
                session_metrics.abandoned
            ) is distinct from (
                sessions.user_id, sessions.type, sessions.created_at,
                sessions.assets, sessions.tags, sessions.archived_at,
                metrics.duration_seconds, metrics.total_queries,
                metrics.cache_hit_rate, metrics.avg_query_time_ms,
                metrics.query_type_summary, metrics.completed_normally,
                metrics.abandoned
            ) and sessions.is_archived
        """
    ).fetchone()
    counted = connection.execute(
        "select (select count(*) from app.sessions), (select count(*) from app.session_metrics), "
        "(select count(*) from analytics.session_changes where fact <> 'opening'), "
        "(select sum(set_aside_values) from analytics.session_facts)"
    ).fetchone()
    assert differing == (0,)
    assert counted is not None
    sessions, metrics, changes, set_aside = counted
    assert sessions == 3_000
    assert isinstance(metrics, int)
    assert 2_900 < metrics < 2_960
    assert (changes, set_aside) == (2 * metrics, 0)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_the_metrics_equal_those_of_an_archival_at_that_moment(
    loaded: tuple[psycopg.Connection[tuple[object, ...]], list[float]],
) -> None:
    # The real archival stamps the present; duration and ending of a session that expired long ago
    # do not depend on it.
    connection, _ = loaded
    figures = (
        "session_id, user_id, session_type, created_at, duration_seconds, total_queries, "
        "cache_hit_rate, avg_query_time_ms, assets_analyzed, query_type_summary, "
        "completed_normally, abandoned, tags"
    )
    connection.execute(
        f"create temporary table loaded as select {figures} from app.session_metrics"
    )
    connection.execute("update app.sessions set is_archived = false, archived_at = null")
    connection.execute("delete from app.session_metrics")
    connection.execute("select analytics.archive_expired_sessions(10000)")
    compared = connection.execute(
        f"""
        select
            count(*),
            count(*) filter (where (loaded.*) is not distinct from (again.*)),
            count(*) filter (where again.session_id is null)
        from loaded
        left join (select {figures} from app.session_metrics) as again using (session_id)
        where not loaded.completed_normally
        """
    ).fetchone()
    assert compared is not None
    total, equal, missing = compared
    assert isinstance(total, int)
    assert total > 1_000
    assert (equal, missing) == (total, 0)
