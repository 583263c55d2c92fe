"""One call of one identity: limited, authorized, and written down however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from fiml.errors import (
    AuthenticationError,
    AuthorizationError,
    DatabaseError,
    InvalidArgumentError,
    LimitExceededError,
)
from fiml.identity.audit import AuditLog, AuditRecord, kinds_of
from fiml.identity.authorization import authorized_user_id
from fiml.identity.limits import Limits
from fiml.identity.tokens import Identity, TokenVerifier
from fiml.settings import Settings

__all__ = ["Access", "Call"]


class Call:
    """A call under way."""

    def __init__(self, identity: Identity, record: AuditRecord) -> None:
        """Keep who asks, and the record that grows with what is granted."""
        self._identity = identity
        self._record = record

    def user_id(self, wanted: object = None) -> str | None:
        """Return whose figures this call gets, as `authorized_user_id`.

        Raises:
            InvalidUserIdError: `wanted` is neither None nor a user id.
            AuthorizationError: the identity may not ask for it.
        """
        granted = authorized_user_id(self._identity, wanted)
        if granted is None:
            self._record.about = "platform"
        elif granted == self._identity.subject:
            self._record.about = "own"
        else:
            self._record.about = "other"
            self._record.other = granted
        return granted


class Access:
    """What a network face asks: who is it, and may this call be made?"""

    def __init__(self, verifier: TokenVerifier, limits: Limits, audit: AuditLog) -> None:
        """Put the parts together."""
        self._verifier = verifier
        self._limits = limits
        self._audit = audit

    @classmethod
    def from_settings(cls, settings: Settings) -> Access | None:
        """Return the access that the settings describe; None where they name no keys of tokens.

        Raises:
            SettingsError: a key file cannot be used, or there is no audience.
        """
        verifier = TokenVerifier.from_settings(settings)
        if verifier is None:
            return None
        limits = Limits(
            per_minute=settings.calls_per_minute,
            burst=settings.calls_burst,
            concurrent=settings.concurrent_calls,
        )
        return cls(verifier, limits, AuditLog.from_settings(settings))

    def authenticate(self, token: str) -> Identity:
        """Return the identity that a bearer token proves.

        Raises:
            AuthenticationError: it proves none; the audit log says why.
        """
        try:
            return self._verifier.verify(token)
        except AuthenticationError as error:
            self._audit.write_refused_token(str(error))
            raise

    @contextmanager
    def call(
        self,
        identity: Identity,
        operation: str,
        arguments: Mapping[str, object],
        known: Collection[str],
    ) -> Iterator[Call]:
        """Make one call inside this; whatever is raised passes through.

        Args:
            identity: who asks.
            operation: the tool or endpoint.
            arguments: what was given; only the kinds of the values are written down.
            known: the names that `operation` has for its arguments.

        Raises:
            LimitExceededError: the identity calls too often, or too much at once.
        """
        record = AuditRecord(operation, identity.subject, kinds_of(arguments, known))
        began = perf_counter()
        record.outcome = "answered"
        try:
            with self._limits.admitted(identity.subject):
                yield Call(identity, record)
        except BaseException as error:
            record.outcome = _outcome(error)
            raise
        finally:
            record.milliseconds = (perf_counter() - began) * 1000
            self._audit.write(record)


def _outcome(error: BaseException) -> str:
    match error:
        case LimitExceededError():
            return "limited"
        case AuthorizationError():
            return "refused"
        case InvalidArgumentError():
            return "invalid"
        case DatabaseError():
            return "failed"
        case asyncio.CancelledError():
            return "cancelled"
        case _:
            return "crashed"
