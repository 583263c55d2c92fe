"""Alert rules that are not evaluated, and notices that are not delivered."""

from __future__ import annotations

from fiml.sessions.health._asking import Connection, one_row
from fiml.sessions.health._findings import Finding, Limits, Severity
from fiml.sessions.health._spans import patience, span
from fiml.settings import Settings

__all__ = ["alerts"]


async def alerts(connection: Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    """Whether rules are evaluated, and notices delivered."""
    found = await one_row(
        connection,
        """
        select
            count(*) as rules,
            count(*) filter (where alert_rules.state = 'unknown') as unknown,
            min(alert_rules.problem) as problem,
            now() - max(alert_rules.evaluated_at) as age
        from analytics.alert_rules
        """,
    )
    waiting = await one_row(
        connection,
        """
        select
            count(*) as notices,
            now() - min(notices.created_at) as age,
            min(notices.channel || ': ' || notices.problem) as problem
        from analytics.notices
        where
            notices.attempts > 0
            and notices.delivered_at is null
            and notices.given_up_at is null
        """,
    )
    findings = []
    if found.unknown:
        findings.append(
            Finding(
                "alerts.unknown",
                Severity.WARNING,
                "alert rules that cannot be evaluated",
                f"{found.unknown:,} of {found.rules:,} rules; one of them: {found.problem}.",
                "Run `session-analytics alerts --evaluate`.",
            )
        )
    if waiting.notices:
        findings.append(
            Finding(
                "alerts.undelivered",
                Severity.WARNING,
                "undelivered notices",
                f"{waiting.notices:,} could not be delivered yet, the oldest waits for "
                f"{span(waiting.age)}: {waiting.problem}.",
                "Repair the channel; the next evaluation tries again. `session-analytics alerts` "
                "shows each.",
            )
        )
    if found.rules and settings.alerts_file is not None:
        limit = patience(settings.schedule)
        if found.age is not None and found.age > limit:
            findings.append(
                Finding(
                    "alerts.stale",
                    Severity.WARNING,
                    "alert rules are not evaluated",
                    f"The last time was {span(found.age)} ago, more than {span(limit)}.",
                    "Run `session-analytics alerts --evaluate`, then see why the schedule "
                    f"({settings.schedule}) did not.",
                )
            )
    if not findings and found.rules:
        findings.append(
            Finding("alerts", Severity.OK, "alerts", f"{found.rules:,} rules are evaluated.")
        )
    return findings
