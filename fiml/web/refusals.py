"""Every failure as a status and a sentence, the same for each of the faces."""

from __future__ import annotations

import logging
import math
import traceback
from dataclasses import dataclass, field
from typing import Final

from fiml.errors import (
    AuthenticationError,
    AuthorizationError,
    DatabaseError,
    InvalidArgumentError,
    LimitExceededError,
    SessionAnalyticsError,
)
from fiml.identity.failures import explained
from fiml.web.arguments import told

__all__ = ["STATUSES", "Refusal", "refusal_of"]

# Status: the code of an error body, and when.
STATUSES: Final = {
    400: ("invalid_argument", "A parameter is unknown or malformed."),
    401: ("unauthenticated", "No valid bearer token says who is asking."),
    403: ("forbidden", "The token does not permit these figures."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address is asked with another method."),
    429: ("limited", "The caller asks too often, or too much at once."),
    500: ("unexpected", "Something failed that nobody foresaw."),
    503: ("unavailable", "The database did not answer; this does not mean zero."),
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in the place of figures.

    Attributes:
        status: of HTTP.
        message: whole sentences.
        headers: that go with it.
    """

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The stable name of the kind of failure."""
        return STATUSES[self.status][0]

    def body(self) -> dict[str, object]:
        """As JSON."""
        return {"error": {"code": self.code, "message": self.message}}


def refusal_of(error: Exception) -> Refusal:
    """What an error is answered with; one that is not the caller's is also told to the log."""
    match error:
        case InvalidArgumentError():
            return Refusal(400, f"{told(error)}.")
        case AuthenticationError():
            return Refusal(
                401, "A bearer token has to say who is asking.", {"WWW-Authenticate": "Bearer"}
            )
        case AuthorizationError():
            return Refusal(403, f"{_sentence(str(error))}. No figure was computed.")
        case LimitExceededError():
            wait = error.retry_after_seconds
            headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
            return Refusal(429, f"{_sentence(str(error))}. No figure was computed.", headers)
        case DatabaseError():
            _logger.warning("a request failed: %s", error)
            return Refusal(503, explained(error))
        case SessionAnalyticsError():
            _logger.warning("a request failed: %s", error)
            return Refusal(500, explained(error))
        case _:
            # Where, but not what: the text of an unknown exception may hold a user id.
            _logger.error(
                "a request failed unexpectedly with %s\n%s",
                type(error).__name__,
                "".join(traceback.format_tb(error.__traceback__)),
            )
            return Refusal(500, "The request failed unexpectedly. It was logged.")


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]
