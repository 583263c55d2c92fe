"""What an examination returns, and from where on something is worth a warning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

__all__ = ["Finding", "Limits", "Severity", "is_healthy"]


class Severity(StrEnum):
    """How bad a finding is: an error makes answers wrong or impossible, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        code: a stable name for programs, such as `build.stale`.
        severity: how bad it is.
        title: what it is, in a few words.
        detail: what was found, with figures.
        remedy: what to do; None where nothing is to be done.
    """

    code: str
    severity: Severity
    title: str
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is worth a warning.

    Attributes:
        feed_rows: rows of the change feed that no build has pruned.
        feed_bytes: the same in bytes, indexes included.
        unseen_rows: rows of the change feed that the serving layer has not folded.
        build_age: age of the oldest mart; None takes three periods of the schedule, at least 1 h.
        archival_delay: how long the oldest expired session may wait for its archival; None takes
            the same as `build_age`.
    """

    feed_rows: int = 500_000
    feed_bytes: int = 256 * 1024 * 1024
    unseen_rows: int = 10_000
    build_age: timedelta | None = None
    archival_delay: timedelta | None = None


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether none of the findings is an error."""
    return all(finding.severity is not Severity.ERROR for finding in findings)
