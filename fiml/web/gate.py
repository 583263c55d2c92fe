"""Who is asking, by header or by cookie, and what a call of theirs gets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from starlette.requests import HTTPConnection

from fiml.errors import AuthenticationError, LimitExceededError
from fiml.identity.access import Access
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.identity.tokens import Identity
from fiml.network.names import LOOPBACK, in_url
from fiml.sessions._arguments import check_user_id

__all__ = ["Asking", "Caller", "Gate", "cookie_name", "is_loopback"]

# Pages of one identity that are kept up to date at the same time, and of all.
_MOST_LIVE: Final = 20
_MOST_LIVE_IN_ALL: Final = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking.

    Attributes:
        identity: what the token proves; None where nobody is asked for one.
        token: the token itself, to be verified again while a connection lasts.
    """

    identity: Identity | None
    token: str = field(default="", repr=False)

    @property
    def subject(self) -> str | None:
        """Whose limits apply: the user id that the token proves, or None for all who need none."""
        return None if self.identity is None else self.identity.subject

    @property
    def may_see_the_platform(self) -> bool:
        """Whether figures without a user are everybody's."""
        return self.identity is None or PLATFORM_SCOPE in self.identity.scopes

    @property
    def may_see_users(self) -> bool:
        """Whether figures may be those of other users."""
        return self.identity is None or USERS_SCOPE in self.identity.scopes


class Asking(Protocol):
    """A call under way."""

    def user_id(self, wanted: object = None) -> str | None:
        """Whose figures this call gets."""


class _Anybody:
    def user_id(self, wanted: object = None) -> str | None:
        return None if wanted is None else check_user_id(wanted)


class Gate:
    """What every route asks before it answers."""

    def __init__(self, access: Access | None) -> None:
        """Take what binds callers to their identity; None admits everybody."""
        self._access = access
        self._live: dict[str | None, int] = {}

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self._access is None

    def caller(self, connection: HTTPConnection) -> Caller:
        """Return who is asking: by the header `Authorization`, else by the cookie of the page.

        Raises:
            AuthenticationError: nothing valid says so.
        """
        if self._access is None:
            return Caller(None)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if not scheme:
            token = connection.cookies.get(cookie_name(connection), "")
        elif scheme.lower() != "bearer":
            token = ""
        if not token:
            raise AuthenticationError("there is no token")
        return self.bearer(token.strip())

    def bearer(self, token: str) -> Caller:
        """Return the caller that a token proves.

        Raises:
            AuthenticationError: it proves none.
        """
        if self._access is None:
            return Caller(None)
        return Caller(self._access.authenticate(token), token)

    @contextmanager
    def call(
        self,
        caller: Caller,
        operation: str,
        arguments: Mapping[str, object],
        known: Collection[str],
    ) -> Iterator[Asking]:
        """Make one call inside this, as `Access.call`.

        Raises:
            LimitExceededError: the caller calls too often, or too much at once.
        """
        if self._access is None or caller.identity is None:
            yield _Anybody()
            return
        with self._access.call(caller.identity, operation, arguments, known) as call:
            yield call

    @contextmanager
    def staying(self, caller: Caller) -> Iterator[None]:
        """Hold a place for a page that is kept up to date.

        Raises:
            LimitExceededError: there are too many already.
        """
        whose = caller.subject
        most = _MOST_LIVE if caller.identity is not None else _MOST_LIVE_IN_ALL
        if self._live.get(whose, 0) >= most or sum(self._live.values()) >= _MOST_LIVE_IN_ALL:
            raise LimitExceededError("too many pages are kept up to date; close one of them")
        self._live[whose] = self._live.get(whose, 0) + 1
        try:
            yield
        finally:
            self._live[whose] -= 1
            if not self._live[whose]:
                del self._live[whose]


def cookie_name(connection: HTTPConnection) -> str:
    """The name of the cookie that holds the token of a page.

    With the prefix, browsers take it over TLS alone, for this host alone, and send no other one.
    Loopback needs no TLS.
    """
    return "session-analytics" if is_loopback(connection) else "__Host-session-analytics"


def is_loopback(connection: HTTPConnection) -> bool:
    """Whether the name that was asked for never leaves this machine."""
    host = connection.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in {in_url(known) for known in LOOPBACK}
