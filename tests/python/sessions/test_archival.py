import asyncio
import json
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sessions.metrics_oracle import metrics_of, read_metrics, read_sessions
from sessions.writes import count_metrics_writes, metrics_writes

from fiml.database import Database
from fiml.errors import DatabaseError, DeadlineExceededError, InvalidArgumentError
from fiml.sessions.archival import ArchivalResult, archive_expired
from fiml.sessions.models import QueryRecord, Session
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

Connection = psycopg.Connection[tuple[Any, ...]]
YESTERDAY = "now() - interval '1 day'"


def value(database: Connection, statement: str, *parameters: object) -> Any:
    row = database.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def add_expired(database: Connection, count: int, **columns: str) -> list[UUID]:
    """Expired sessions, the earliest expiry first; `columns` holds SQL expressions."""
    given = {"type": "'equity'", **columns}
    rows = database.execute(
        f"""
        insert into sessions (id, created_at, expires_at, {", ".join(given)})
        select
            gen_random_uuid(), {YESTERDAY},
            {YESTERDAY} + number * interval '1 second', {", ".join(given.values())}
        from generate_series(1, {count}) as number
        returning id
        """
    ).fetchall()
    return [row[0] for row in rows]


def assert_metrics_follow_from_the_history(database: Connection) -> None:
    """Every archived session has its metrics, and no other session has any."""
    sessions, metrics = read_sessions(database), read_metrics(database)
    expected = {key: metrics_of(row) for key, row in sessions.items() if row.is_archived}
    for session_id, row in expected.items():
        assert metrics.get(session_id) == row
    assert metrics.keys() == expected.keys()


def assert_each_was_written_once(database: Connection, session_ids: list[UUID]) -> None:
    assert metrics_writes(database) == dict.fromkeys(session_ids, 1)


def refuse(database: Connection, session_id: UUID, raising: str) -> None:
    """A trigger of the application's own that stands in the way of one session."""
    name = f"refuse_{session_id.hex}"
    database.execute(
        f"""
        create or replace function {name}() returns trigger language plpgsql as $$
        begin
            if new.session_id = '{session_id}' then {raising}; end if;
            return new;
        end $$;
        create or replace trigger {name} before insert on session_metrics
        for each row execute function {name}();
        """
    )


def admit(database: Connection, session_id: UUID) -> None:
    database.execute(f"drop trigger refuse_{session_id.hex} on session_metrics")


def random_history(rng: random.Random) -> str:
    def figure() -> str:
        return rng.choice(
            [
                "12",
                "0",
                "0.0005",
                "3.1415926",
                str(rng.randrange(10**9)),
                f"{rng.random():.6f}",
                "-5",
                "1e15",
                "1000000000000001",
                "9e130000",
                "1e-400",
                '"12"',
                "null",
                "true",
                "[]",
            ]
        )

    def element() -> str:
        odd = ["5", "null", "true", '"text"', "[]", '[{"query_type": "price"}]', "{}"]
        if rng.random() < 0.15:
            return rng.choice(odd)
        kinds = ['"price"', '"news"', '"é"', '""', f'"{"x" * 255}"', f'"{"x" * 256}"', "5", "null"]
        members = {
            "query_type": rng.choice(kinds),
            "execution_time_ms": figure(),
            "cache_hit": rng.choice(["true", "false", "null", '"true"', "1"]),
        }
        kept = [f'"{name}": {text}' for name, text in members.items() if rng.random() < 0.9]
        return f"{{{', '.join(kept)}}}"

    if rng.random() < 0.1:
        return rng.choice(["{}", "null", "5", '"text"', '{"query_type": "price"}'])
    return f"[{', '.join(element() for _ in range(rng.randrange(8)))}]"


def add_random_sessions(database: Connection, count: int, seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        (
            uuid4(),
            rng.choice(["analyst", None, "", "é"]),
            rng.choice(["equity", "macro", "astrology", ""]),
            rng.choice(['["AAPL", "AAPL"]', "[]", "null", "{}", '[1, null, ""]', '"AAPL"']),
            rng.choice(['["a", "b"]', "[]", '"a"', "{}", "[5]"]),
            rng.choice(
                [
                    *("2024-05-01", "2024-05-01 12:00:00.999999", "-infinity", "infinity"),
                    *("4000-01-01 BC", "2999-01-01"),
                ]
            ),
            rng.choice(
                [
                    *("2024-05-01 12:00:01", "2024-05-02", "-infinity", "2000-01-01"),
                    *("2024-06-01", None, "infinity", "2999-01-01", "4000-01-01 BC"),
                ]
            ),
            random_history(rng),
            rng.choice([0, 0, 0, 1, 5, -7, 2**31 - 1, -(2**31)]),
        )
        for _ in range(count)
    ]
    with database.cursor() as cursor:
        cursor.executemany(
            "insert into sessions (id, user_id, type, assets, tags, created_at, expires_at,"
            " query_history, total_queries) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )


# What is recorded -------------------------------------------------------------------------------


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


# Once -------------------------------------------------------------------------------------------


async def test_archiving_again_changes_nothing(store: SessionStore, database: Connection) -> None:
    session_ids = add_expired(database, 5)
    assert await store.archive_session(session_ids[0])
    assert not await store.archive_session(session_ids[0])
    assert await store.cleanup_expired_sessions() == 4
    before = database.execute("table session_metrics").fetchall()
    sessions = database.execute("select id, xmin::text from sessions").fetchall()
    assert await store.archive_expired_sessions() == 0
    assert not await store.archive_session(session_ids[1])
    assert database.execute("table session_metrics").fetchall() == before
    assert database.execute("select id, xmin::text from sessions").fetchall() == sessions


async def test_open_sessions_and_those_without_an_expiry_stay_open(
    store: SessionStore, database: Connection
) -> None:
    session = await store.create_session([], "equity")
    database.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    assert await store.archive_expired_sessions() == 0
    stored = await store.get_session(session.id)
    assert stored is not None
    assert not stored.is_archived


async def test_archiving_one_session_from_many_sides_archives_it_once(
    store: SessionStore, database: Connection
) -> None:
    count_metrics_writes(database)
    session_ids = add_expired(database, 1)
    outcomes = await asyncio.gather(
        *(store.archive_session(session_ids[0]) for _ in range(8)),
        *(store.archive_expired_sessions() for _ in range(4)),
    )
    assert sum(map(int, outcomes)) == 1
    assert_each_was_written_once(database, session_ids)


def wait_until(database: Connection, condition: str) -> None:
    for _ in range(3000):
        if value(database, f"select exists ({condition}) from pg_sleep(0.01)"):
            return
    pytest.fail(f"never came true: {condition}")


# Batches ----------------------------------------------------------------------------------------


async def test_progress_is_told_by_batch(settings: Settings, database: Connection) -> None:
    session_ids = add_expired(database, 25)
    refuse(database, session_ids[3], "raise 'no'")
    seen: list[ArchivalResult] = []
    async with Database(replace(settings, archive_connections=1)) as archiver:
        result = await archive_expired(archiver, batch_size=10, on_progress=seen.append)
    assert result == ArchivalResult(archived=24, quarantined=1)
    assert seen == [ArchivalResult(9, 1), ArchivalResult(19, 1), ArchivalResult(24, 1)]


async def test_the_size_of_a_batch_comes_from_the_settings(
    migrated_database: str, database: Connection
) -> None:
    add_expired(database, 5)
    seen: list[ArchivalResult] = []
    settings = Settings(
        conninfo=migrated_database,
        timeout_seconds=30,
        archive_batch_size=2,
        archive_connections=1,
    )
    async with Database(settings) as archiver:
        await archive_expired(archiver, on_progress=seen.append)
    assert [result.archived for result in seen] == [2, 4, 5]


async def test_as_many_batches_are_archived_at_once_as_the_settings_say(
    settings: Settings, database: Connection
) -> None:
    count_metrics_writes(database)
    session_ids = add_expired(database, 40)
    # The first two batches wait here, each in the middle.
    for number in (3, 13):
        refuse(database, session_ids[number], "perform pg_advisory_xact_lock_shared(1)")
    waiting = "(select count(*) from pg_stat_activity where wait_event_type = 'Lock') = 2"
    with psycopg.connect(settings.conninfo, autocommit=True) as gate:
        gate.execute("select pg_advisory_lock(1)")
        async with Database(replace(settings, archive_connections=2)) as archiver:
            archival = asyncio.create_task(archive_expired(archiver, batch_size=10))
            await asyncio.to_thread(wait_until, database, f"select where {waiting}")
            gate.execute("select pg_advisory_unlock(1)")
            assert (await archival).archived == 40
    assert_each_was_written_once(database, session_ids)


async def test_a_batch_that_fails_ends_the_archival_and_leaves_the_others_whole(
    settings: Settings, database: Connection
) -> None:
    add_expired(database, 40)
    told: list[ArchivalResult] = []

    def fail(result: ArchivalResult) -> None:
        told.append(result)
        raise LookupError

    async with Database(replace(settings, archive_connections=2)) as archiver:
        with pytest.raises(LookupError):
            await archive_expired(archiver, batch_size=10, on_progress=fail)
    archived = value(database, "select count(*) from sessions where is_archived")
    assert archived == max(result.archived for result in told) in (10, 20)
    assert_metrics_follow_from_the_history(database)


@pytest.mark.parametrize("batch_size", [0, -1, 1_000_001, True, 2.0, "10"])
async def test_the_size_of_a_batch_is_a_whole_number(batch_size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="batch_size"):
        await archive_expired(Database(Settings()), batch_size=batch_size)


async def test_a_batch_may_take_longer_than_a_call(
    migrated_database: str, database: Connection
) -> None:
    session_ids = add_expired(database, 2)
    refuse(database, session_ids[0], "perform pg_sleep(1)")
    settings = Settings(conninfo=migrated_database, timeout_seconds=0.5)
    async with Database(settings) as archiver:
        assert (await archive_expired(archiver)).archived == 2

        async def sleep(connection: psycopg.AsyncConnection[Any]) -> None:
            await connection.execute("select pg_sleep(1)")

        with pytest.raises(DeadlineExceededError):
            await archiver.run(sleep, timeout=30)


# Set aside --------------------------------------------------------------------------------------


async def test_sessions_that_cannot_be_archived_are_set_aside_and_the_others_go_on(
    store: SessionStore, database: Connection
) -> None:
    reasons = {
        "raise 'not on a Sunday'": "not on a Sunday",
        "raise 'mine' using errcode = 'AB123'": "mine",
        "perform 1 / 0": "division by zero",
        "new.session_type := null": "null value in column",
        "new.session_type := repeat('x', 51)": "value too long",
    }
    session_ids = add_expired(database, 40, user_id="'analyst'")
    refused = dict(zip(session_ids[::9], reasons.items(), strict=True))
    for session_id, (raising, _) in refused.items():
        refuse(database, session_id, raising)
    assert await store.archive_expired_sessions() == 35
    rows = database.execute(
        "select session_id, fact, user_id, source_row ->> 'id', reason from analytics.quarantine"
    ).fetchall()
    assert {row[0] for row in rows} == refused.keys()
    for session_id, fact, user_id, source_id, reason in rows:
        assert (fact, user_id, source_id) == ("archival", "analyst", str(session_id))
        assert refused[session_id][1] in reason
    assert_metrics_follow_from_the_history(database)
    assert await store.archive_expired_sessions() == 0
    assert value(database, "select count(*) from analytics.quarantine") == 5

    for session_id in refused:
        admit(database, session_id)
    assert await store.archive_expired_sessions() == 0
    assert value(database, "select analytics.release_quarantined_sessions()") == 5
    assert await store.archive_expired_sessions() == 5
    assert_metrics_follow_from_the_history(database)


async def test_values_that_a_constraint_of_the_application_refuses_are_set_aside(
    store: SessionStore, database: Connection
) -> None:
    add_expired(database, 20, total_queries="number * 1000")
    database.execute("alter table session_metrics add check (total_queries < 15500)")
    assert await store.archive_expired_sessions() == 15
    assert value(database, "select count(*) from analytics.quarantine") == 5
    assert_metrics_follow_from_the_history(database)


async def test_a_session_that_a_trigger_keeps_open_is_set_aside(
    store: SessionStore, database: Connection
) -> None:
    session_ids = add_expired(database, 3)
    database.execute(
        f"""
        create function keep_open() returns trigger language plpgsql as $$
        begin
            return case when new.id <> '{session_ids[1]}' then new end;
        end $$;
        create trigger keep_open before update on sessions
        for each row execute function keep_open();
        """
    )
    assert await store.archive_expired_sessions() == 2
    assert value(database, "select session_id from analytics.quarantine") == session_ids[1]
    with pytest.raises(DatabaseError, match="trigger"):
        await store.archive_session(session_ids[1])


async def test_what_is_wrong_with_the_server_sets_no_session_aside(
    store: SessionStore, database: Connection
) -> None:
    session_ids = add_expired(database, 3)
    for code in ("55P03", "53400", "42501", "58030"):
        refuse(database, session_ids[1], f"raise 'not now' using errcode = '{code}'")
        with pytest.raises(DatabaseError):
            await store.archive_expired_sessions()
    assert value(database, "select count(*) from analytics.quarantine") == 0
    assert value(database, "select count(*) from session_metrics") == 0


async def test_archiving_by_hand_what_was_set_aside_takes_it_out_of_quarantine(
    store: SessionStore, database: Connection
) -> None:
    session_ids = add_expired(database, 1)
    refuse(database, session_ids[0], "raise 'no'")
    assert await store.archive_expired_sessions() == 0
    admit(database, session_ids[0])
    assert await store.archive_session(session_ids[0])
    assert value(database, "select count(*) from analytics.quarantine") == 0


async def test_sessions_from_before_the_retention_horizon_do_not_stop_the_archival(
    settings: Settings, database: Connection
) -> None:
    add_expired(database, 5)
    database.execute("update sessions set created_at = created_at - interval '3 days'")
    database.execute("update analytics.settings set horizon = date_trunc('day', now(), 'UTC')")
    async with Database(settings) as archiver:
        result = await archive_expired(archiver, batch_size=2)
    assert result.archived == 5
    assert value(database, "select count(*) from session_metrics") == 0
    facts = database.execute("select fact from analytics.quarantine").fetchall()
    assert facts == [("metrics",)] * 5


# Recorded before the end ------------------------------------------------------------------------


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
