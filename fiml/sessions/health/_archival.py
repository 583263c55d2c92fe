"""Sessions that wait for their archival, and rows that were set aside."""

from __future__ import annotations

from psycopg import sql

from fiml.sessions.health._asking import COUNTED_AT_MOST, Connection, all_rows, one_row
from fiml.sessions.health._findings import Finding, Limits, Severity
from fiml.sessions.health._spans import patience, span
from fiml.settings import Settings

__all__ = ["archival", "quarantine"]


async def archival(connection: Connection, settings: Settings, limits: Limits) -> list[Finding]:
    """How many expired sessions wait for their archival, and for how long."""
    source = sql.Identifier(settings.source_schema)
    pending = await one_row(
        connection,
        sql.SQL(
            """
            select
                count(*) as sessions,
                coalesce(
                    now() - min(expired.expires_at) filter (where isfinite(expired.expires_at)),
                    interval '0'
                ) as delay
            from (
                select sessions.expires_at
                from {source}.sessions
                where
                    not sessions.is_archived
                    and sessions.expires_at <= now()
                    and not exists (
                        select from analytics.quarantine
                        where quarantine.session_id = sessions.id and quarantine.fact = 'archival'
                    )
                order by sessions.expires_at
                limit %(at_most)s
            ) as expired
            """
        ).format(source=source),
        {"at_most": COUNTED_AT_MOST},
    )
    if not pending.sessions:
        return [Finding("archival", Severity.OK, "archival", "No expired session is waiting.")]
    limit = limits.archival_delay or patience(settings.schedule)
    is_late = pending.delay > limit
    more = " or more" if pending.sessions == COUNTED_AT_MOST else ""
    return [
        Finding(
            "archival.pending" if is_late else "archival",
            Severity.WARNING if is_late else Severity.OK,
            "pending archival" if is_late else "archival",
            f"{pending.sessions:,}{more} expired "
            f"{'session waits' if pending.sessions == 1 else 'sessions wait'}, the oldest for "
            f"{span(pending.delay)}. They are in no figure until they are archived.",
            "Run `session-analytics archive`." if is_late else None,
        )
    ]


async def quarantine(connection: Connection, _settings: Settings, _limits: Limits) -> list[Finding]:
    """What was set aside, by its reason."""
    rows = await all_rows(
        connection,
        """
        select quarantine.fact, quarantine.reason, count(*) as rows
        from analytics.quarantine
        group by quarantine.fact, quarantine.reason
        order by count(*) desc, quarantine.reason
        limit 20
        """,
    )
    look = "Look at analytics.quarantine, and delete there what needs no attention."
    remedies = {
        "archival": "Repair these sessions (analytics.quarantine has their ids), then run "
        "`session-analytics archive --retry-quarantined`.",
        "metrics": look,
        "late archival": look,
    }
    return [
        Finding(
            f"quarantine.{row.fact}",
            Severity.WARNING,
            "rows set aside",
            f"{row.rows:,} of {row.fact}: {row.reason}.",
            remedies[row.fact],
        )
        for row in rows
    ] or [Finding("quarantine", Severity.OK, "quarantine", "No row was set aside.")]
