"""The audit log: one line of JSON for each call, with pseudonyms in the place of user ids."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fiml.errors import SettingsError
from fiml.identity._files import read_secret
from fiml.settings import Settings

__all__ = ["AuditLog", "AuditRecord", "kinds_of"]

_KEY_FILE: Final = "SESSION_ANALYTICS_AUDIT_KEY_FILE"
_SHORTEST_KEY: Final = 32
_PSEUDONYM_DIGITS: Final = 32

_logger = logging.getLogger("fiml.audit")


@dataclass(slots=True)
class AuditRecord:
    """One call, as the log tells it.

    Attributes:
        operation: the tool or endpoint.
        caller: the subject of who asks; logged as a pseudonym.
        arguments: name of each known argument, and the kind of its value.
        about: whose figures: "own", "other", "platform"; None while nothing was granted.
        other: the other user's id; logged as a pseudonym.
        outcome: how it ended.
        milliseconds: how long it took.
    """

    operation: str
    caller: str
    arguments: dict[str, str]
    about: str | None = None
    other: str | None = None
    outcome: str = ""
    milliseconds: float = 0.0


class AuditLog:
    """Writes records to the logger `fiml.audit`, level INFO."""

    def __init__(self, key: bytes | None = None) -> None:
        """Take the key of the pseudonyms; without one they last as long as this object."""
        self._key = key if key is not None else secrets.token_bytes(_SHORTEST_KEY)

    @classmethod
    def from_settings(cls, settings: Settings) -> AuditLog:
        """Return the log with the key that the settings name.

        Raises:
            SettingsError: its file cannot be used, or has fewer than 32 bytes.
        """
        if settings.audit_key_file is None:
            return cls()
        key = read_secret(settings.audit_key_file, _KEY_FILE)
        if len(key) < _SHORTEST_KEY:
            raise SettingsError(
                f"{_KEY_FILE}: the key has {len(key)} bytes; expected at least {_SHORTEST_KEY}"
            )
        return cls(key)

    def pseudonym(self, user_id: str) -> str:
        """Return what stands for a user: HMAC-SHA256 of the id, 128 bits of it."""
        digest = hmac.new(self._key, user_id.encode(), hashlib.sha256)
        return digest.hexdigest()[:_PSEUDONYM_DIGITS]

    def write(self, record: AuditRecord) -> None:
        """Write one line."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "operation": record.operation,
            "identity": self.pseudonym(record.caller),
            "arguments": record.arguments,
            "about": record.about,
            "other": self.pseudonym(record.other) if record.other is not None else None,
            "outcome": record.outcome,
            "duration_ms": round(record.milliseconds, 3),
        }
        _logger.info("%s", json.dumps(line))

    def write_refused_token(self, reason: str) -> None:
        """Write the line of a request whose token proved no identity."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "outcome": "unauthenticated",
            "reason": reason,
        }
        _logger.info("%s", json.dumps(line))


def kinds_of(arguments: Mapping[str, object], known: Collection[str]) -> dict[str, str]:
    """Return the shape of arguments: the kind of value of each known one, how many others.

    The name of an unknown argument is text that a caller chose, so it is not in it.
    """
    shape = {name: _kind(arguments[name]) for name in known if name in arguments}
    unknown = len(arguments.keys() - set(known))
    return {**shape, "unknown": str(unknown)} if unknown else shape


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
