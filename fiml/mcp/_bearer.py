"""Bearer tokens as the MCP library carries them through a request."""

from __future__ import annotations

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.requests import Request

from fiml.errors import AuthenticationError
from fiml.identity.access import Access
from fiml.identity.tokens import Identity

__all__ = ["BearerVerifier", "identity_of"]


class BearerVerifier:
    """The library's `TokenVerifier`, with our verification."""

    def __init__(self, access: Access) -> None:
        """Take what verifies."""
        self._access = access

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the identity in the library's terms; None where the token proves none."""
        try:
            identity = self._access.authenticate(token)
        except AuthenticationError:
            return None
        # Without the token itself: what nobody needs any more cannot get into a log.
        return AccessToken(
            token="",
            client_id=identity.subject,
            subject=identity.subject,
            scopes=sorted(identity.scopes),
        )


def identity_of(request: object) -> Identity:
    """Return the identity that a request was authenticated as.

    Raises:
        AuthenticationError: it was not, whatever let it through.
    """
    user = request.scope.get("user") if isinstance(request, Request) else None
    if not isinstance(user, AuthenticatedUser) or user.access_token.subject is None:
        raise AuthenticationError("this request was not authenticated")
    return Identity(user.access_token.subject, frozenset(user.access_token.scopes))
