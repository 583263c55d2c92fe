"""Which sessions were open in snapshots of before, whatever was written since."""

from __future__ import annotations

from typing import Any

from exactness.world.connected import Connected

__all__ = ["Openings"]

# Sessions that are open by user and type, now or as an earlier snapshot saw them: those that the
# source has, minus what the feed says has changed since.
OPEN_SESSIONS = """
select changes.user_key, changes.session_type, sum(changes.open_sessions)::integer
from (
    select
        coalesce(user_keys.user_key, analytics.anonymous_key()) as user_key,
        sessions.type::text as session_type,
        1 as open_sessions
    from sessions
    left join analytics.user_keys on user_keys.user_id = sessions.user_id
    where not sessions.is_archived
    union all
    select user_key, session_type, -sign * open_sessions
    from analytics.session_changes
    where not pg_visible_in_snapshot(xid, coalesce(%s::pg_snapshot, pg_current_snapshot()))
) as changes
group by changes.user_key, changes.session_type
having sum(changes.open_sessions) <> 0
"""


class Openings(Connected):
    """What is remembered of snapshots, and compared with what can be told of them later."""

    def remember_openings(self) -> None:
        """Remember which sessions are open in a snapshot of now, for `check` to compare."""
        with self.oracle.transaction():
            self.oracle.execute("set transaction isolation level repeatable read, read only")
            row = self.oracle.execute("select pg_current_snapshot()::text").fetchone()
            assert row is not None
            self.openings.append((row[0], self._open_sessions(None)))

    def check_openings(self) -> None:
        """Whatever was written since, what was open in a snapshot can be told from it."""
        for snapshot, expected in self.openings:
            assert self._open_sessions(snapshot) == expected

    def _open_sessions(self, snapshot: str | None) -> list[tuple[Any, ...]]:
        return sorted(self.oracle.execute(OPEN_SESSIONS, [snapshot]).fetchall(), key=repr)
