"""What is asked: whose figures, of how many days, at which instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

__all__ = ["MOST_SESSIONS_OF_A_USER", "SCOPES", "Question", "Scope", "find_scope"]

# "user" has as many sessions in the window as a bar allows, or a few less.
SCOPES: Final = ("platform", "type", "user", "heaviest")
MOST_SESSIONS_OF_A_USER: Final = 100

_TYPE: Final = "equity"

_USER: Final = """
select user_id
from session_metrics
where created_at >= %(since)s and created_at < %(until)s and user_id is not null
group by user_id
having count(*) <= %(most)s
order by count(*) desc, user_id
limit 1
"""

_HEAVIEST_USER: Final = """
select user_id
from session_metrics
where user_id is not null
group by user_id
order by count(*) desc, user_id
limit 1
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose figures.

    Attributes:
        name: one of `SCOPES`.
        user_id: one user, or None for everybody.
        session_type: one type, or None for all.
    """

    name: str
    user_id: str | None = None
    session_type: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question, the same for every contender.

    Attributes:
        scope: whose figures.
        days: the window, in days of 24 hours.
        as_of: the instant at which the window ends, in UTC.
    """

    scope: Scope
    days: int
    as_of: datetime

    @property
    def since(self) -> datetime:
        """Where the window begins; part of it."""
        return self.as_of - timedelta(days=self.days)

    def __str__(self) -> str:
        """For a message: scope, window, instant."""
        return f"{self.scope.name}, {self.days} days before {self.as_of.isoformat()}"


def find_scope(
    connection: psycopg.Connection[Any], name: str, days: int, anchor: datetime
) -> Scope:
    """The scope of that name; users are looked up in what is stored.

    Raises:
        LookupError: no user has so few sessions.
    """
    if name == "platform":
        return Scope(name)
    if name == "type":
        return Scope(name, session_type=_TYPE)
    if name == "heaviest":
        row = connection.execute(_HEAVIEST_USER).fetchone()
    else:
        row = connection.execute(
            _USER,
            {
                # Questions are asked at any instant of the anchor's last day.
                "since": anchor - timedelta(days=days + 1),
                "until": anchor,
                "most": MOST_SESSIONS_OF_A_USER,
            },
        ).fetchone()
    if row is None:
        raise LookupError(f"no user has {MOST_SESSIONS_OF_A_USER} sessions or fewer")
    return Scope(name, user_id=row[0])
