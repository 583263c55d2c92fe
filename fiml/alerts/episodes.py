"""What became of the rules: their state, and the episodes in which they hold or held.

A rule's row is locked while its state changes, and a figure that is older than what is known
changes nothing: however many evaluators there are, an episode begins and ends once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from psycopg.rows import class_row, namedtuple_row

from fiml.alerts.model import Rule
from fiml.alerts.wording import fired_message, over_message
from fiml.database import Connection, Database
from fiml.sessions._arguments import MAX_LIMIT, check_whole_number

__all__ = [
    "Episode",
    "Reading",
    "RuleState",
    "close_removed",
    "note_problem",
    "recent_episodes",
    "rule_states",
    "take_over",
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule's figure is.

    Attributes:
        sessions: sessions in the window.
        as_of: when, by the database's clock.
    """

    value: Decimal
    sessions: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which a rule held; names and messages name no user.

    Attributes:
        name: of the rule.
        severity: "info", "warning" or "critical".
        fired_at: when it was found to hold.
        over_at: when it was found not to hold any more; None while it does.
        value: the figure when it fired.
        threshold: of the rule.
        message: the same in a sentence.
    """

    name: str
    severity: str
    fired_at: datetime
    over_at: datetime | None
    value: Decimal
    threshold: Decimal
    message: str


@dataclass(frozen=True, slots=True)
class RuleState:
    """What is known of a rule.

    Attributes:
        state: "holds", "holds not", "too few sessions", "unknown" or "new".
        problem: why it could not be evaluated.
        fired_at: when the episode began that has not ended.
    """

    rule_name: str
    state: str
    value: Decimal | None
    sessions: int | None
    evaluated_at: datetime | None
    problem: str | None
    fired_at: datetime | None


async def take_over(connection: Connection, rule: Rule, reading: Reading) -> list[str]:
    """Let a reading begin or end an episode, with a notice for each of the rule's channels.

    Returns:
        What happened: "fired", "over", "changed", or nothing.
    """
    is_enough = reading.sessions >= rule.minimum_sessions
    holds = rule.comparison.holds(reading.value, rule.threshold)
    happened: list[str] = []
    async with connection.transaction():
        known = await _locked(connection, rule)
        if known.evaluated_at is not None and known.evaluated_at >= reading.as_of:
            return happened
        if not known.is_same and await _end(
            connection, [rule.name], reading.as_of, "changed", over_message(rule, None)
        ):
            happened.append("changed")
        state = ("holds" if holds else "holds not") if is_enough else "too few sessions"
        await connection.execute(_REMEMBER, _remembered(rule, state, reading))
        if state == "holds" and await _begin(connection, rule, reading):
            happened.append("fired")
        if state == "holds not" and await _end(
            connection, [rule.name], reading.as_of, "over", over_message(rule, reading)
        ):
            happened.append("over")
    return happened


async def note_problem(connection: Connection, rule: Rule, problem: str) -> None:
    """Remember that a rule could not be evaluated: an episode neither begins nor ends."""
    async with connection.transaction():
        await _locked(connection, rule)
        await connection.execute(_UNKNOWN, {"rule_name": rule.name, "problem": problem})


async def close_removed(connection: Connection, names: Collection[str]) -> list[str]:
    """End the episodes of rules that are not in the file any more, and return which ended."""
    async with connection.transaction():
        cursor = await connection.execute(_REMOVE, [list(names)])
        removed = [str(row[0]) for row in await cursor.fetchall()]
        return await _end(connection, removed, None, "removed", over_message(None, None))


async def rule_states(connection: Connection) -> list[RuleState]:
    """What is known of the rules that were evaluated, by name."""
    async with connection.cursor(row_factory=class_row(RuleState)) as cursor:
        await cursor.execute(_STATES)
        return await cursor.fetchall()


async def recent_episodes(source: Database | Connection, limit: int = 10) -> list[Episode]:
    """The latest episodes, those first that have not ended, then by when they began.

    Args:
        source: a database, or a connection of one; a reader's login is enough.
        limit: how many at most, 1 to 1000.

    Raises:
        InvalidArgumentError: `limit` is not an integer from 1 to 1000.
        DatabaseError: the database did not answer; see its subclasses.
    """
    count = check_whole_number(limit, "limit", MAX_LIMIT)

    async def read(connection: Connection) -> list[Episode]:
        async with connection.cursor(row_factory=class_row(Episode)) as cursor:
            await cursor.execute(_RECENT, [count])
            return await cursor.fetchall()

    if isinstance(source, Database):
        return await source.run(read, is_repeatable=True)
    return await read(source)


async def _locked(connection: Connection, rule: Rule) -> Any:
    given = {"rule_name": rule.name, "definition": rule.definition}
    await connection.execute(_INTRODUCE, given)
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(_LOCK, given)
        return await cursor.fetchone()


def _remembered(rule: Rule, state: str, reading: Reading) -> dict[str, object]:
    return {
        "rule_name": rule.name,
        "definition": rule.definition,
        "state": state,
        "value": reading.value,
        "sessions": reading.sessions,
        "as_of": reading.as_of,
    }


async def _begin(connection: Connection, rule: Rule, reading: Reading) -> UUID | None:
    cursor = await connection.execute(
        _FIRE,
        {
            "rule_name": rule.name,
            "description": rule.description,
            "severity": rule.severity.value,
            "figure": rule.figure_named,
            "comparison": rule.comparison.value,
            "threshold": rule.threshold,
            "window_hours": rule.window_hours,
            "session_type": rule.session_type,
            "user_id": rule.user_id,
            "value": reading.value,
            "sessions": reading.sessions,
            "message": fired_message(rule, reading.value, reading.sessions),
            "as_of": reading.as_of,
            "channels": list(rule.channels),
        },
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def _end(
    connection: Connection,
    names: list[str],
    as_of: datetime | None,
    ending: str,
    message: str,
) -> list[str]:
    cursor = await connection.execute(
        _END, {"names": names, "as_of": as_of, "ending": ending, "message": message}
    )
    return [str(row[0]) for row in await cursor.fetchall()]


_INTRODUCE: Final = """
insert into analytics.alert_rules (rule_name, fingerprint, state)
values (%(rule_name)s, analytics.alert_fingerprint(%(definition)s), 'new')
on conflict (rule_name) do nothing
"""
_LOCK: Final = """
select
    alert_rules.evaluated_at,
    alert_rules.fingerprint = analytics.alert_fingerprint(%(definition)s) as is_same
from analytics.alert_rules
where alert_rules.rule_name = %(rule_name)s
for update
"""
_REMEMBER: Final = """
update analytics.alert_rules
set
    fingerprint = analytics.alert_fingerprint(%(definition)s),
    state = %(state)s,
    value = %(value)s,
    sessions = %(sessions)s,
    evaluated_at = %(as_of)s,
    problem = null
where rule_name = %(rule_name)s
"""
# The time and the figure stay those that were found last.
_UNKNOWN: Final = """
update analytics.alert_rules
set state = 'unknown', problem = %(problem)s
where rule_name = %(rule_name)s
"""
_REMOVE: Final = """
delete from analytics.alert_rules
where alert_rules.rule_name <> all(%s)
returning alert_rules.rule_name
"""
# The episode that has not ended keeps another one out.
_FIRE: Final = """
with episode as (
    insert into analytics.alert_episodes (
        rule_name, description, severity, figure, comparison, threshold, window_hours,
        session_type, user_key, value, sessions, message, fired_at
    )
    values (
        %(rule_name)s, %(description)s, %(severity)s, %(figure)s, %(comparison)s, %(threshold)s,
        %(window_hours)s, %(session_type)s,
        (select user_keys.user_key from analytics.user_keys where user_keys.user_id = %(user_id)s),
        %(value)s, %(sessions)s, %(message)s, %(as_of)s
    )
    on conflict (rule_name) where over_at is null do nothing
    returning episode_id
),

notices as (
    insert into analytics.notices (kind, episode_id, channel)
    select 'fired', episode.episode_id, channel
    from episode
    cross join unnest(%(channels)s::text[]) as channel
)

select episode.episode_id from episode
"""
# Who was told that it fired is told that it is over.
_END: Final = """
with episode as (
    update analytics.alert_episodes
    set
        over_at = greatest(coalesce(%(as_of)s, transaction_timestamp()), fired_at),
        ending = %(ending)s,
        over_message = %(message)s
    where rule_name = any(%(names)s) and over_at is null
    returning episode_id, rule_name
),

notices as (
    insert into analytics.notices (kind, episode_id, channel)
    select 'over', episode.episode_id, fired.channel
    from episode
    inner join analytics.notices as fired on episode.episode_id = fired.episode_id
    where fired.kind = 'fired'
)

select episode.rule_name from episode
"""
_STATES: Final = """
select
    alert_rules.rule_name,
    alert_rules.state,
    alert_rules.value,
    alert_rules.sessions,
    alert_rules.evaluated_at,
    alert_rules.problem,
    alert_episodes.fired_at
from analytics.alert_rules
left join analytics.alert_episodes
    on alert_rules.rule_name = alert_episodes.rule_name and alert_episodes.over_at is null
order by alert_rules.rule_name collate "C"
"""
_RECENT: Final = """
select
    alert_episodes.rule_name as name,
    alert_episodes.severity,
    alert_episodes.fired_at,
    alert_episodes.over_at,
    alert_episodes.value,
    alert_episodes.threshold,
    alert_episodes.message
from analytics.alert_episodes
order by alert_episodes.over_at is not null, alert_episodes.fired_at desc, alert_episodes.episode_id
limit %s
"""
