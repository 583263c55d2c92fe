"""What cannot be archived is set aside, and the others go on."""

import pytest
from sessions.archival.ground import (
    add_expired,
    admit,
    assert_metrics_follow_from_the_history,
    refuse,
)
from sessions.examples import Connection, value

from fiml.database import Database
from fiml.errors import DatabaseError
from fiml.sessions.archival import archive_expired
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


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
