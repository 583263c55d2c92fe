"""Finds what is wrong with an installation, and says what to do about it."""

from fiml.sessions.health._examination import examine
from fiml.sessions.health._findings import Finding, Limits, Severity, is_healthy

__all__ = ["Finding", "Limits", "Severity", "examine", "is_healthy"]
