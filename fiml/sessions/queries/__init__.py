"""All SQL of the reader, parameters only.

Figures are read in one of three ways, each equal to the others; the first that can answer does.

Serving (`layer`): one statement, whose cost depends neither on the window's length nor on the
number of sessions; fiml.sessions.windows adds up what it returns.

Marts (`marts`), one statement for each question.

Source: the same statements, or for a user the user's own rows (`users`). The heaviest users have
totals in the serving layer.

Each way answers for one window of days, which ends at the transaction's time, and for periods that
lie side by side.
"""

from fiml.sessions.queries.export import (
    LONG_PAUSES,
    SESSION_COLUMNS,
    SNAPSHOT,
    has_begun,
    session_metrics_rows,
)
from fiml.sessions.queries.layer import MEMBERS, NAMES, PERIODS, WINDOW
from fiml.sessions.queries.marts import MartQuestion, mart_name_question, mart_question
from fiml.sessions.queries.rows import ActiveRow, CountRow, MetaRow, StatsRow, WindowPart
from fiml.sessions.queries.transactions import BEGIN, CLOCK, COMMIT, RECORD
from fiml.sessions.queries.users import USER_PERIODS, USER_PERIODS_OF_SUMS, USER_WINDOW

__all__ = [
    "BEGIN",
    "CLOCK",
    "COMMIT",
    "LONG_PAUSES",
    "MEMBERS",
    "NAMES",
    "PERIODS",
    "RECORD",
    "SESSION_COLUMNS",
    "SNAPSHOT",
    "USER_PERIODS",
    "USER_PERIODS_OF_SUMS",
    "USER_WINDOW",
    "WINDOW",
    "ActiveRow",
    "CountRow",
    "MartQuestion",
    "MetaRow",
    "StatsRow",
    "WindowPart",
    "has_begun",
    "mart_name_question",
    "mart_question",
    "session_metrics_rows",
]
