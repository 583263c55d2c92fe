"""One evaluation: read each figure, let episodes begin and end, deliver what is to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fiml.alerts.channels import seconds_for, sender
from fiml.alerts.episodes import Reading, close_removed, note_problem, rule_states, take_over
from fiml.alerts.file import load
from fiml.alerts.model import AlertFile, Figure, Rule
from fiml.alerts.notices import Notice, deliver, drop_orphans, undelivered
from fiml.database import Connection, Database
from fiml.errors import DatabaseError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["Evaluation", "evaluate", "figure_of"]

_OF_RULES: Final = ("fired", "over")
_SHARE_PLACES: Final = Decimal("0.0001")


@dataclass(slots=True)
class Evaluation:
    """What an evaluation did.

    Attributes:
        rules: how many the file has.
        holding: names of those that hold.
        fired, over: names of those whose episode began or ended now.
        unknown: rules that could not be evaluated, and why.
        delivered: notices.
        undelivered: channels that failed, now or before, and how the last time.
    """

    rules: int = 0
    holding: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    delivered: list[Notice] = field(default_factory=list)
    undelivered: dict[str, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether every rule was evaluated, and every notice delivered."""
        return not (self.unknown or self.undelivered)


async def evaluate(settings: Settings) -> Evaluation:
    """Evaluate every rule of the file that the settings name, and deliver what is to be told.

    Figures are read with the reader's login, and what became of the rules is written with the
    builder's. Any number of processes may do this at once.

    Raises:
        SettingsError: no file is named, or it cannot be used.
        AlertFileError: something in it is wrong.
        DatabaseError: the database did not answer; nothing began or ended, and what was to be
            delivered still is. See its subclasses.
    """
    alerts = load(settings)
    evaluation = Evaluation(rules=len(alerts.rules))
    async with (
        Database(settings.connecting_as(Purpose.READER)) as figures,
        Database(settings.connecting_as(Purpose.BUILDER)) as state,
    ):
        analytics = SessionAnalytics(figures)
        read: dict[_Window, dict[str, Any]] = {}
        for rule in alerts.rules:
            await _evaluate_rule(analytics, read, state, rule, evaluation)
        await _tidy(state, alerts, evaluation)
        for channel in alerts.channels:
            delivered, problem = await deliver(
                state,
                channel.name,
                sender(channel),
                kinds=_OF_RULES,
                seconds=seconds_for(channel),
            )
            evaluation.delivered += delivered
            if problem is not None:
                evaluation.undelivered[channel.name] = problem
        # What failed before and was not tried now is no less a failure.
        for notice in await state.run(undelivered, is_repeatable=True):
            if notice.kind in _OF_RULES and notice.problem is not None:
                evaluation.undelivered.setdefault(notice.channel, notice.problem)
    return evaluation


def figure_of(rule: Rule, stats: Mapping[str, Any]) -> Decimal:
    """A rule's figure, from the documented dictionary.

    A share is of all in the window, rounded half-up to 4 places, and 0 where there are none.
    """
    if not rule.figure.is_share:
        return Decimal(str(stats[rule.figure]))
    counts = stats[
        "session_type_breakdown"
        if rule.figure is Figure.SESSION_TYPE_SHARE
        else "query_type_distribution"
    ]
    total = int(sum(counts.values()))
    if not total:
        return Decimal(0)
    # In whole numbers, as the dictionary's own fractions.
    ten_thousandths = (2 * int(counts.get(rule.of, 0)) * 10_000 + total) // (2 * total)
    return ten_thousandths * _SHARE_PLACES


# By user, type and hours.
_Window = tuple[str | None, str | None, int]


async def _evaluate_rule(
    analytics: SessionAnalytics,
    read: dict[_Window, dict[str, Any]],
    state: Database,
    rule: Rule,
    evaluation: Evaluation,
) -> None:
    window = (rule.user_id, rule.session_type, rule.window_hours)
    try:
        # Rules about the same window are about the same figures.
        if window not in read:
            read[window] = await analytics.get_session_stats(
                user_id=rule.user_id,
                session_type=rule.session_type,
                hours=rule.window_hours,
                include_meta=True,
            )
        stats = read[window]
    except DatabaseError as error:
        problem = str(error)
        evaluation.unknown[rule.name] = problem

        async def note(connection: Connection) -> None:
            await note_problem(connection, rule, problem)

        await state.run(note, is_repeatable=True)
        return
    reading = Reading(
        figure_of(rule, stats),
        stats["total_sessions"],
        datetime.fromisoformat(stats["meta"]["as_of"]),
    )

    async def take(connection: Connection) -> list[str]:
        return await take_over(connection, rule, reading)

    happened = await state.run(take, is_repeatable=True)
    if "fired" in happened:
        evaluation.fired.append(rule.name)
    if {"over", "changed"} & set(happened):
        evaluation.over.append(rule.name)


async def _tidy(state: Database, alerts: AlertFile, evaluation: Evaluation) -> None:
    names = [rule.name for rule in alerts.rules]
    channels = [channel.name for channel in alerts.channels]

    async def tidy(connection: Connection) -> tuple[list[str], list[str]]:
        ended = await close_removed(connection, names)
        await drop_orphans(connection, channels, alerts.reports)
        return ended, [
            state.rule_name for state in await rule_states(connection) if state.fired_at is not None
        ]

    ended, evaluation.holding = await state.run(tidy, is_repeatable=True)
    evaluation.over += ended
