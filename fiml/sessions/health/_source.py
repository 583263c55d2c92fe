"""The application's tables: whether their changes are logged, and what is missing in their rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from psycopg import sql

from fiml.sessions.health._asking import COUNTED_AT_MOST, Connection, all_rows, one_row
from fiml.sessions.health._findings import Finding, Limits, Severity
from fiml.sessions.health._spans import span
from fiml.settings import Settings

__all__ = ["expiry", "freshness", "triggers"]

_HOUR: Final = timedelta(hours=1)
_TRIGGERS: Final = (
    "analytics_admit_user",
    "analytics_log_insert",
    "analytics_log_update",
    "analytics_log_delete",
    "analytics_refuse_truncate",
)
# Of one table; without it metrics that come without tags have none, instead of their session's.
_OWN_TRIGGERS: Final = {"sessions": (), "session_metrics": ("analytics_fill_tags",)}


async def triggers(connection: Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    """Whether every change of the source tables is logged."""
    rows = await all_rows(
        connection,
        """
        select
            pg_class.relname as table_name,
            pg_trigger.tgname as name,
            pg_trigger.tgenabled as state
        from pg_class
        left join pg_trigger on pg_trigger.tgrelid = pg_class.oid and not pg_trigger.tgisinternal
        where
            pg_class.relnamespace = to_regnamespace(quote_ident(%s))
            and pg_class.relname in ('sessions', 'session_metrics')
            and pg_class.relkind in ('r', 'p')
        """,
        [settings.source_schema],
    )
    findings = []
    for table, own in _OWN_TRIGGERS.items():
        named = f"{settings.source_schema}.{table}"
        states = {row.name: row.state for row in rows if row.table_name == table}
        if not states:
            findings.append(
                Finding(
                    "source.missing",
                    Severity.ERROR,
                    "no source table",
                    f"{named} does not exist.",
                    "Restore it from a backup, or start anew: `session-analytics uninstall`, then "
                    "`session-analytics migrate`.",
                )
            )
            continue
        wanted = (*_TRIGGERS, *own)
        missing = [name for name in wanted if name not in states]
        # O: as usual; A: always. D is disabled, R fires in replicas only.
        silent = [name for name in wanted if states.get(name, "O") not in {"O", "A", b"O", b"A"}]
        if missing:
            findings.append(
                Finding(
                    "triggers.missing",
                    Severity.ERROR,
                    "triggers are missing",
                    f"{named} lacks {', '.join(missing)}: writes pass the figures by.",
                    "Create them again as in fiml/sessions/migrations/0002_change_feed.sql, then "
                    "run `session-analytics build --from-scratch`.",
                )
            )
        if silent:
            statements = " ".join(f"alter table {named} enable trigger {name};" for name in silent)
            findings.append(
                Finding(
                    "triggers.disabled",
                    Severity.ERROR,
                    "triggers are disabled",
                    f"{named}: {', '.join(silent)}: writes pass the figures by.",
                    f"Run in psql: {statements} Then run `session-analytics build --from-scratch`.",
                )
            )
    return findings or [
        Finding("triggers", Severity.OK, "triggers", "Every change of the source tables is logged.")
    ]


async def expiry(connection: Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    """Whether every session ends."""
    found = await one_row(
        connection,
        sql.SQL(
            """
            select count(*) as sessions
            from (
                select
                from {source}.sessions
                where not sessions.is_archived and sessions.expires_at is null
                limit %(at_most)s
            ) as endless
            """
        ).format(source=sql.Identifier(settings.source_schema)),
        {"at_most": COUNTED_AT_MOST},
    )
    if not found.sessions:
        return []
    more = " or more" if found.sessions == COUNTED_AT_MOST else ""
    return [
        Finding(
            "sessions.without_expiry",
            Severity.WARNING,
            "sessions without an expiry",
            f"{found.sessions:,}{more} open sessions have no expires_at: they never count as "
            "active and are never archived.",
            f"Set expires_at of these rows in {settings.source_schema}.sessions.",
        )
    ]


async def freshness(connection: Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    """Whether archival still records metrics."""
    found = await one_row(
        connection,
        sql.SQL(
            """
            select
                latest.recorded_at,
                latest.archived_at,
                now() - latest.recorded_at as age,
                latest.archived_at - latest.recorded_at as lag
            from (
                select
                    (
                        select max(session_metrics.recorded_at)
                        from {source}.session_metrics
                        where isfinite(session_metrics.recorded_at)
                    ) as recorded_at,
                    (
                        select max(sessions.archived_at)
                        from {source}.sessions
                        where
                            sessions.is_archived
                            and sessions.archived_at <= now()
                            and isfinite(sessions.archived_at)
                    ) as archived_at
            ) as latest
            """
        ).format(source=sql.Identifier(settings.source_schema)),
    )
    if found.archived_at is not None and (found.recorded_at is None or found.lag > _HOUR):
        recorded = "never" if found.age is None else f"{span(found.age)} ago"
        return [
            Finding(
                "metrics.missing",
                Severity.WARNING,
                "sessions are archived without metrics",
                f"A session was archived at {found.archived_at:%Y-%m-%d %H:%M} UTC, metrics were "
                f"recorded last: {recorded}. Such sessions are in archived_sessions alone.",
                "Archive by `session-analytics archive` or SessionStore, which record them.",
            )
        ]
    detail = (
        "No metrics yet." if found.age is None else f"Metrics were recorded {span(found.age)} ago."
    )
    return [Finding("metrics", Severity.OK, "freshness", detail)]
