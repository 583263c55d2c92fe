"""What a caller over a network is told of a failure: what it means, and what to do."""

from __future__ import annotations

from fiml.errors import (
    DatabaseUnavailableError,
    DeadlineExceededError,
    PoolExhaustedError,
    SchemaVersionError,
    SessionAnalyticsError,
)

__all__ = ["explained"]


def explained(error: SessionAnalyticsError) -> str:
    """The sentences for an error that is not the caller's own; nothing of what it says itself."""
    match error:
        case DatabaseUnavailableError():
            return (
                "The session database cannot be reached. No figure was computed; this does not "
                "mean that there were no sessions. Try again in a minute."
            )
        case DeadlineExceededError():
            return (
                "The session database did not answer in time. No figure was computed. "
                "Try again in a minute, or with fewer days."
            )
        case PoolExhaustedError():
            return "The server is busy. No figure was computed. Try again in a few seconds."
        case SchemaVersionError():
            return (
                "The session database is not prepared for this version of session-analytics. "
                "Whoever runs it has to run `session-analytics doctor`; trying again does not help."
            )
        case _:
            return (
                "The session database refused the question. No figure was computed. "
                "Whoever runs it can run `session-analytics doctor`."
            )
