"""What an alert file holds, checked: rules, reports, and the channels that they are told on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from fiml.errors import SettingsError
from fiml.identity._files import read_secret

__all__ = [
    "FOLDER",
    "AlertFile",
    "Channel",
    "Comparison",
    "Figure",
    "LogChannel",
    "Report",
    "Rule",
    "Secret",
    "Security",
    "Severity",
    "SmtpChannel",
    "WebhookChannel",
]


class Figure(StrEnum):
    """What a rule looks at: a number of the documented dictionary, or a share of it."""

    TOTAL_SESSIONS = "total_sessions"
    ACTIVE_SESSIONS = "active_sessions"
    ARCHIVED_SESSIONS = "archived_sessions"
    TOTAL_QUERIES = "total_queries"
    AVG_DURATION_SECONDS = "avg_duration_seconds"
    AVG_QUERIES_PER_SESSION = "avg_queries_per_session"
    ABANDONMENT_RATE = "abandonment_rate"
    SESSION_TYPE_SHARE = "session_type_share"
    QUERY_TYPE_SHARE = "query_type_share"

    @property
    def is_share(self) -> bool:
        """Whether it is the share of something that the rule names."""
        return self in {Figure.SESSION_TYPE_SHARE, Figure.QUERY_TYPE_SHARE}


class Comparison(StrEnum):
    """How a figure is compared with a threshold."""

    ABOVE = "above"
    AT_LEAST = "at_least"
    BELOW = "below"
    AT_MOST = "at_most"
    EQUAL = "equal"

    def holds(self, value: Decimal, threshold: Decimal) -> bool:
        """Whether the figure is on the rule's side of the threshold."""
        match self:
            case Comparison.ABOVE:
                return value > threshold
            case Comparison.AT_LEAST:
                return value >= threshold
            case Comparison.BELOW:
                return value < threshold
            case Comparison.AT_MOST:
                return value <= threshold
            case Comparison.EQUAL:
                return value == threshold

    @property
    def words(self) -> str:
        """As a sentence says it."""
        return {"at_least": "at least", "at_most": "at most", "equal": "equal to"}.get(
            self.value, self.value
        )


class Severity(StrEnum):
    """How bad it is where a rule holds."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """When to alert, and whom.

    Attributes:
        of: the session type or query type whose share the figure is; None for other figures.
        window_hours: length of the window that ends at the evaluation.
        in_days: whether the file gives it in days.
        minimum_sessions: with fewer in the window nothing is known.
        channels: names of the file's channels.
    """

    name: str
    description: str
    figure: Figure
    of: str | None
    comparison: Comparison
    threshold: Decimal
    window_hours: int
    in_days: bool
    minimum_sessions: int
    session_type: str | None
    user_id: str | None
    severity: Severity
    channels: tuple[str, ...]

    @property
    def definition(self) -> str:
        """What makes it another rule where it changes; as it names a user, for no log."""
        return json.dumps(
            [
                self.figure,
                self.of,
                self.comparison,
                str(self.threshold.normalize()),
                self.window_hours,
                self.minimum_sessions,
                self.session_type,
                self.user_id,
            ]
        )

    @property
    def figure_named(self) -> str:
        """The figure, with what it is the share of."""
        return f"{self.figure} of {self.of}" if self.of is not None else str(self.figure)

    @property
    def window_named(self) -> str:
        """The window, such as `7 days` or `1 hour`."""
        count, unit = (self.window_hours, "hour")
        if self.in_days:
            count, unit = (self.window_hours // 24, "day")
        return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is; never the secret itself."""

    variable: str | None = None
    file: Path | None = None

    def read(self) -> str:
        """Return the secret, as it is now.

        Raises:
            SettingsError: there is none, it is no text, or others have access to its file.
        """
        if self.file is not None:
            try:
                found = read_secret(self.file, "alert file").decode()
            except UnicodeDecodeError:
                raise SettingsError(f"alert file: {self.file} holds no text") from None
        else:
            found = os.environ.get(str(self.variable), "")
        if not found:
            where = self.file if self.file is not None else f"variable {self.variable}"
            raise SettingsError(f"alert file: {where} holds nothing")
        return found


@dataclass(frozen=True, slots=True)
class LogChannel:
    """The logger `fiml.alerts`."""

    name: str


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """A POST of JSON.

    Attributes:
        url: http or https; as a secret where whoever knows it may post.
        secret: what signs; None leaves it unsigned.
        timeout_seconds: deadline of one delivery.
    """

    name: str
    url: str | Secret
    secret: Secret | None
    timeout_seconds: int


class Security(StrEnum):
    """How a mail server is spoken to."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SmtpChannel:
    """A mail.

    Attributes:
        timeout_seconds: deadline of one step of a delivery; all of it may take eight times that.
    """

    name: str
    host: str
    port: int
    security: Security
    user: str | None
    password: Secret | None
    sender: str
    recipients: tuple[str, ...]
    timeout_seconds: int


Channel = LogChannel | WebhookChannel | SmtpChannel


@dataclass(frozen=True, slots=True)
class Report:
    """A report of each ISO week.

    Attributes:
        title: its heading.
        timezone: whose weeks.
        at: when on the Monday after it, in that zone, it is due.
        channel: name of a mail channel; None where it is only written.
        recipients: in the place of the channel's.
        folder: where it is written.
    """

    name: str
    title: str
    session_type: str | None
    user_id: str | None
    timezone: ZoneInfo
    at: time
    channel: str | None
    recipients: tuple[str, ...]
    folder: Path | None

    @property
    def ways(self) -> frozenset[str]:
        """The channels by which it is delivered, of which the folder is one."""
        mailed = () if self.channel is None else (self.channel,)
        written = () if self.folder is None else (FOLDER,)
        return frozenset({*mailed, *written})


@dataclass(frozen=True, slots=True)
class AlertFile:
    """Everything in the file; names are unique among their kind."""

    channels: tuple[Channel, ...]
    rules: tuple[Rule, ...]
    reports: tuple[Report, ...]


LOG: Final = LogChannel("log")
# The channel of what is written; no channel of a file can have this name.
FOLDER: Final = "(folder)"
