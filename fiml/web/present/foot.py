"""The latest alerts, and how far each mart is."""

from __future__ import annotations

from dataclasses import dataclass

from fiml.alerts import Episode
from fiml.web import calendar
from fiml.web.views import MartState, View

__all__ = ["Alert", "MartRow", "State", "alerts_of", "state_of"]


@dataclass(frozen=True, slots=True)
class MartRow:
    """How far one mart is, in words."""

    name: str
    folded_at: str
    state: str
    is_well: bool


@dataclass(frozen=True, slots=True)
class State:
    """The state of the builds: a sentence, and each mart."""

    sentence: str
    is_well: bool
    rows: list[MartRow]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, in words.

    Attributes:
        rule: its name.
        message: what was found.
        severity: "info", "warning" or "critical".
        time: since when it holds, or from when to when it held.
        is_over: whether it has ended.
    """

    rule: str
    message: str
    severity: str
    time: str
    is_over: bool


def alerts_of(view: View) -> list[Alert] | None:
    """The latest ones; None where the figures are one user's, as rules are about everybody."""
    return None if view.subject.user_id else [_alert(view, one) for one in view.alerts]


def state_of(view: View) -> State:
    """Each mart, and a sentence about all of them."""
    zone = view.subject.zone

    def row(mart: MartState) -> MartRow:
        if not mart.is_usable:
            return MartRow(mart.mart, "", "not built here: answers come from the raw rows", False)  # noqa: FBT003
        state = "to be rebuilt" if mart.is_rebuild_requested else "built"
        folded_at = calendar.instant(mart.folded_at, zone) if mart.folded_at else ""
        return MartRow(mart.mart, folded_at, state, not mart.is_rebuild_requested)

    rows = [row(mart) for mart in view.marts]
    is_well = all(mart.is_well for mart in rows)
    waiting = "nothing is waiting"
    # How much others do is nothing that one user's page tells.
    if view.subject.user_id is not None:
        waiting = "what they have not seen is added to each figure"
    elif view.unseen:
        changes = "change is" if view.unseen == 1 else "changes are"
        waiting = f"{view.unseen:,} {changes} not folded yet"
    if not is_well:
        sentence = "Some marts wait for a build; answers are right all the same, and slower."
    else:
        sentence = f"All {len(rows)} marts are built; {waiting}."
    return State(sentence, is_well, rows)


def _alert(view: View, episode: Episode) -> Alert:
    fired_at = calendar.instant(episode.fired_at, view.subject.zone)
    if episode.over_at is None:
        time = f"since {fired_at}"
    else:
        time = f"{fired_at} to {calendar.instant(episode.over_at, view.subject.zone)}"
    is_over = episode.over_at is not None
    return Alert(episode.name, episode.message, episode.severity, time, is_over)
