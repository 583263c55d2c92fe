"""Expired sessions, what stands in their way, and what holds after every archival."""

from uuid import UUID

from sessions.examples import Connection
from sessions.metrics_oracle import metrics_of, read_metrics, read_sessions

__all__ = ["YESTERDAY", "add_expired", "admit", "assert_metrics_follow_from_the_history", "refuse"]

YESTERDAY = "now() - interval '1 day'"


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


def assert_metrics_follow_from_the_history(database: Connection) -> None:
    """Every archived session has its metrics, and no other session has any."""
    sessions, metrics = read_sessions(database), read_metrics(database)
    expected = {key: metrics_of(row) for key, row in sessions.items() if row.is_archived}
    for session_id, row in expected.items():
        assert metrics.get(session_id) == row
    assert metrics.keys() == expected.keys()
