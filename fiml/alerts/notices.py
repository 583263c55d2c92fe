"""What is still to be told, and how each telling ended.

A notice is delivered while its row is locked: another evaluator passes it by, and where this one
dies the lock is free at once. Between the delivery and the commit it may die too: then the notice
is delivered again, under the same key, by which a receiver knows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from psycopg.rows import class_row

from fiml.alerts.model import FOLDER, Report
from fiml.database import Connection, Database
from fiml.errors import DeliveryError

__all__ = [
    "DeliveredReport",
    "Notice",
    "Undelivered",
    "deliver",
    "delivered_reports",
    "drop_orphans",
    "enqueue_report",
    "undelivered",
    "way",
]

# Beside what the delivery itself may take.
_SECONDS_FOR_STATEMENTS: Final = 30
_LONGEST_PROBLEM: Final = 200


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one channel; what is of an episode is None in a report.

    Attributes:
        kind: "fired", "over" or "report".
        ending: "over", "changed" or "removed".
        period: the ISO week of a report.
        attempts: how often it was tried before.
    """

    notice_id: int
    kind: str
    channel: str
    attempts: int
    report_name: str | None
    period: str | None
    episode_id: UUID | None
    rule_name: str | None
    description: str | None
    severity: str | None
    figure: str | None
    comparison: str | None
    threshold: Decimal | None
    window_hours: int | None
    session_type: str | None
    user_key: UUID | None
    value: Decimal | None
    sessions: int | None
    message: str | None
    fired_at: datetime | None
    over_at: datetime | None
    ending: str | None
    over_message: str | None

    @property
    def key(self) -> str:
        """The same at every attempt, and for every channel."""
        if self.episode_id is None:
            return f"{self.report_name}.{self.period}"
        return f"{self.episode_id}.{self.kind}"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A notice that waits.

    Attributes:
        subject: the rule or the report.
        problem: what the last attempt ended with; None before the first one.
    """

    kind: str
    subject: str
    channel: str
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    problem: str | None


@dataclass(frozen=True, slots=True)
class DeliveredReport:
    """A report of a week, as one channel had it."""

    report_name: str
    period: str
    channel: str
    delivered_at: datetime


async def deliver(
    database: Database,
    channel: str,
    send: Callable[[Notice], Awaitable[None]],
    *,
    kinds: Collection[str],
    seconds: float,
    report_name: str | None = None,
    at_once: bool = False,
) -> tuple[list[Notice], str | None]:
    """Deliver what waits for a channel, oldest first, until one fails: the next would too.

    Args:
        database: with a builder's login.
        channel: its name.
        send: delivers one notice, or raises `DeliveryError`; whatever else it raises is a failure
            too, of which only the type is told.
        kinds: of notices.
        seconds: what `send` may take.
        report_name: of one report alone.
        at_once: also what failed before and is to wait for its next attempt.

    Returns:
        What was delivered, and what the last attempt failed with, if it did.

    Raises:
        DatabaseError: the database did not answer; see its subclasses.
    """
    delivered: list[Notice] = []
    limit = seconds + _SECONDS_FOR_STATEMENTS
    while True:

        async def attempt(connection: Connection) -> tuple[Notice | None, str | None]:
            async with connection.transaction():
                await connection.execute(_PATIENCE, [f"{int(limit * 1000)}"])
                notice = await _claimed(connection, channel, kinds, report_name, at_once=at_once)
                if notice is None:
                    return None, None
                problem: str | None = None
                try:
                    await send(notice)
                except DeliveryError as error:
                    problem = str(error)[:_LONGEST_PROBLEM]
                except Exception as error:  # noqa: BLE001 - the other channels are to be told
                    # Its words may hold a secret.
                    problem = f"the delivery broke: {type(error).__name__}"[:_LONGEST_PROBLEM]
                await connection.execute(
                    _FAILED if problem else _DELIVERED,
                    {"notice_id": notice.notice_id, "problem": problem},
                )
                return notice, problem

        notice, problem = await database.run(attempt, timeout=limit)
        if notice is None or problem is not None:
            return delivered, problem
        delivered.append(notice)


async def drop_orphans(
    connection: Connection, channels: Collection[str], reports: Collection[Report]
) -> int:
    """Give up what is for a channel, or of a report by a way, that the file has no more."""
    ways = [(report.name, way) for report in reports for way in report.ways]
    cursor = await connection.execute(
        _DROP,
        {
            "channels": list(channels),
            "reports": [report for report, _ in ways],
            "ways": [way for _, way in ways],
        },
    )
    return cursor.rowcount


async def enqueue_report(
    connection: Connection, name: str, period: str, channels: Collection[str]
) -> None:
    """Let a report of a period be delivered, once for each channel however often this is called."""
    await connection.execute(
        _ENQUEUE, {"report_name": name, "period": period, "channels": list(channels)}
    )


async def delivered_reports(connection: Connection) -> list[DeliveredReport]:
    """Of each report and channel what was delivered of the latest weeks."""
    async with connection.cursor(row_factory=class_row(DeliveredReport)) as cursor:
        await cursor.execute(_DELIVERED_REPORTS)
        return await cursor.fetchall()


def way(channel: str) -> str:
    """How a channel is spoken of."""
    return "to its folder" if channel == FOLDER else f"by {channel}"


async def undelivered(connection: Connection) -> list[Undelivered]:
    """What waits, oldest first."""
    async with connection.cursor(row_factory=class_row(Undelivered)) as cursor:
        await cursor.execute(_UNDELIVERED)
        return await cursor.fetchall()


async def _claimed(
    connection: Connection,
    channel: str,
    kinds: Collection[str],
    report_name: str | None,
    *,
    at_once: bool,
) -> Notice | None:
    async with connection.cursor(row_factory=class_row(Notice)) as cursor:
        await cursor.execute(
            _CLAIM,
            {
                "channel": channel,
                "kinds": list(kinds),
                "report_name": report_name,
                "at_once": at_once,
            },
        )
        return await cursor.fetchone()


_PATIENCE: Final = "select set_config('idle_in_transaction_session_timeout', %s, true)"
# That it is over is told after that it fired.
_CLAIM: Final = """
select
    notices.notice_id,
    notices.kind,
    notices.channel,
    notices.attempts,
    notices.report_name,
    notices.period,
    notices.episode_id,
    alert_episodes.rule_name,
    alert_episodes.description,
    alert_episodes.severity,
    alert_episodes.figure,
    alert_episodes.comparison,
    alert_episodes.threshold,
    alert_episodes.window_hours,
    alert_episodes.session_type,
    alert_episodes.user_key,
    alert_episodes.value,
    alert_episodes.sessions,
    alert_episodes.message,
    alert_episodes.fired_at,
    alert_episodes.over_at,
    alert_episodes.ending,
    alert_episodes.over_message
from analytics.notices
left join analytics.alert_episodes on notices.episode_id = alert_episodes.episode_id
where
    notices.channel = %(channel)s
    and notices.kind = any(%(kinds)s)
    and (%(report_name)s::text is null or notices.report_name = %(report_name)s)
    and notices.delivered_at is null
    and notices.given_up_at is null
    and (%(at_once)s or notices.next_attempt_at <= clock_timestamp())
    and (
        notices.kind <> 'over'
        or not exists (
            select from analytics.notices as before
            where
                before.episode_id = notices.episode_id
                and before.channel = notices.channel
                and before.kind = 'fired'
                and before.delivered_at is null
                and before.given_up_at is null
        )
    )
order by notices.notice_id
limit 1
for update of notices skip locked
"""
_DELIVERED: Final = """
update analytics.notices
set delivered_at = clock_timestamp(), attempts = attempts + 1, problem = null
where notice_id = %(notice_id)s
"""
# Again at the next evaluation; after that in 15 minutes, in 30, and so on to 6 hours.
_FAILED: Final = """
update analytics.notices
set
    attempts = attempts + 1,
    problem = %(problem)s,
    next_attempt_at = clock_timestamp() + case
        when attempts = 0 then interval '0'
        else least(interval '15 minutes' * (2 ^ least(attempts - 1, 10)), interval '6 hours')
    end
where notice_id = %(notice_id)s
"""
_DROP: Final = """
update analytics.notices
set given_up_at = clock_timestamp()
where
    delivered_at is null
    and given_up_at is null
    and case
        when kind = 'report' then not exists (
            select from unnest(%(reports)s::text[], %(ways)s::text[]) as kept (report, way)
            where kept.report = notices.report_name and kept.way = notices.channel
        )
        else not channel = any(%(channels)s)
    end
"""
_ENQUEUE: Final = """
insert into analytics.notices (kind, report_name, period, channel)
select 'report', %(report_name)s, %(period)s, channel
from unnest(%(channels)s::text[]) as channel
on conflict (episode_id, report_name, period, kind, channel) do nothing
"""
_DELIVERED_REPORTS: Final = """
select report_name, period, channel, delivered_at
from (
    select
        report_name,
        period,
        channel,
        delivered_at,
        row_number() over (partition by report_name, channel order by period desc) as place
    from analytics.notices
    where kind = 'report' and delivered_at is not null
) as delivered
where place <= 10
"""
_UNDELIVERED: Final = """
select
    notices.kind,
    coalesce(alert_episodes.rule_name, notices.report_name) as subject,
    notices.channel,
    notices.created_at,
    notices.attempts,
    notices.next_attempt_at,
    notices.problem
from analytics.notices
left join analytics.alert_episodes on notices.episode_id = alert_episodes.episode_id
where notices.delivered_at is null and notices.given_up_at is null
order by notices.notice_id
"""
