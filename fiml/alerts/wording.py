"""What is said of an episode, in the rule's own words and figures, never in a user's."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from fiml.alerts.model import Rule

if TYPE_CHECKING:
    from fiml.alerts.episodes import Reading

__all__ = ["condition", "fired_message", "number", "over_message", "plain"]


def plain(text: str) -> str:
    """`text` in one line, with replaced what is not visible or steers a terminal or a header."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def number(value: Decimal | float) -> str:
    """A figure without an exponent, and without zeros that say nothing."""
    text = f"{Decimal(str(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def condition(rule: Rule) -> str:
    """When a rule holds, such as `abandonment_rate above 0.3 over 1 day`."""
    least = f", of at least {rule.minimum_sessions} sessions" if rule.minimum_sessions else ""
    return (
        f"{rule.figure_named} {rule.comparison.words} {number(rule.threshold)} "
        f"over {rule.window_named}{_scope(rule)}{least}"
    )


def fired_message(rule: Rule, value: Decimal, sessions: int) -> str:
    """Say that a rule holds, and why."""
    return (
        f"{rule.figure_named} is {number(value)}, {rule.comparison.words} "
        f"{number(rule.threshold)}, over the last {rule.window_named}{_scope(rule)} "
        f"({_counted(sessions)})."
    )


def over_message(rule: Rule | None, reading: Reading | None) -> str:
    """Say that an episode is over, and why: by a figure, or by a change of the file."""
    if rule is None:
        return "The rule was removed."
    if reading is None:
        return "The rule was changed."
    return (
        f"{rule.figure_named} is {number(reading.value)}, no longer {rule.comparison.words} "
        f"{number(rule.threshold)}, over the last {rule.window_named}{_scope(rule)} "
        f"({_counted(reading.sessions)})."
    )


def _scope(rule: Rule) -> str:
    # Whose it is, the rule's name says to who wrote it; an id stands in no message.
    of_type = f", {rule.session_type} sessions" if rule.session_type else ""
    return of_type + (", one user" if rule.user_id is not None else "")


def _counted(sessions: int) -> str:
    return "1 session" if sessions == 1 else f"{sessions} sessions"
