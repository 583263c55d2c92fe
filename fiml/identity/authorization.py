"""What an identity may ask for."""

from __future__ import annotations

from typing import Final

from fiml.errors import AuthorizationError
from fiml.identity.tokens import Identity
from fiml.sessions._arguments import check_user_id

__all__ = ["PLATFORM_SCOPE", "USERS_SCOPE", "authorized_user_id"]

PLATFORM_SCOPE: Final = "analytics:platform"
USERS_SCOPE: Final = "analytics:users"


def authorized_user_id(identity: Identity, user_id: object = None) -> str | None:
    """Return whose figures an identity gets: a user's, or None for the whole platform's.

    Without a user, that is the platform where the identity has the scope `analytics:platform`, and
    itself where it has not. Nothing is looked up: a user who does not exist is refused as one who
    does.

    Raises:
        InvalidUserIdError: `user_id` is neither None nor a user id.
        AuthorizationError: another user's figures, without the scope `analytics:users`.
    """
    if user_id is None:
        return None if PLATFORM_SCOPE in identity.scopes else identity.subject
    wanted = check_user_id(user_id)
    if wanted != identity.subject and USERS_SCOPE not in identity.scopes:
        raise AuthorizationError(f"figures of other users need the scope {USERS_SCOPE}")
    return wanted
