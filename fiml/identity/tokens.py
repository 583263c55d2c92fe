"""Bearer tokens (JSON Web Tokens, RFC 7519), and the identity that a valid one proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from fiml.errors import AuthenticationError, SettingsError
from fiml.identity.keys import Keys, keys_of
from fiml.sessions._arguments import text_problem
from fiml.settings import Settings

__all__ = ["Identity", "TokenVerifier"]

# Far above what an issuer makes, and little enough to be refused for nothing.
_LONGEST_TOKEN: Final = 16_384
# Clocks of two machines differ.
_LEEWAY_SECONDS: Final = 30

_REASONS: Final[tuple[tuple[type[jwt.PyJWTError], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer"),
    (jwt.InvalidAlgorithmError, "the token's algorithm is not allowed"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking.

    Attributes:
        subject: the token's `sub`, which is the caller's own user id; not shown by `repr`.
        scopes: what the token grants.
    """

    subject: str = field(repr=False)
    scopes: frozenset[str] = frozenset()


class TokenVerifier:
    """Turns a bearer token into an identity, or refuses it."""

    def __init__(self, keys: Keys, *, audience: str, issuer: str | None = None) -> None:
        """Take what tokens are verified against.

        Args:
            keys: where the key of a token comes from.
            audience: what `aud` must be, or contain.
            issuer: what `iss` must be; None admits any that has the key.
        """
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenVerifier | None:
        """Return the verifier that the settings describe; None where they name no keys.

        Raises:
            SettingsError: keys cannot be used, or there is no audience.
        """
        keys = keys_of(settings)
        if keys is None:
            return None
        if not settings.auth_audience:
            raise SettingsError(
                "SESSION_ANALYTICS_AUTH_AUDIENCE is not set; without it a token made for any other "
                "service would be valid here"
            )
        return cls(keys, audience=settings.auth_audience, issuer=settings.auth_issuer or None)

    def verify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Signature, algorithm (the key's own), `aud`, `iss` where one is expected, `exp` and `nbf`
        are checked; `sub` must be there, and be a user id.

        Raises:
            AuthenticationError: it proves none. The message says why, and repeats nothing.
        """
        if len(token) > _LONGEST_TOKEN:
            raise AuthenticationError("the token is too long")
        if not token.isascii():
            raise AuthenticationError("the token cannot be read")
        try:
            key = self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["aud", "exp", "sub"]},
            )
        except jwt.PyJWTError as error:
            # Not as the cause: what the library says may quote the token.
            raise AuthenticationError(_reason(error)) from None
        if text_problem(claims["sub"]) is not None:
            raise AuthenticationError("the token's sub is no user id")
        return Identity(claims["sub"], _scopes(claims))


def _reason(error: jwt.PyJWTError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim}"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "the token cannot be read"


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    # `scope` is a text with spaces (RFC 8693, RFC 9068); some issuers make it a list, or call it
    # `scp`.
    scopes: set[str] = set()
    for claim in ("scope", "scp"):
        match claims.get(claim):
            case None:
                pass
            case str(text):
                scopes.update(text.split())
            case list(names) if all(isinstance(name, str) for name in names):
                scopes.update(names)
            case _:
                raise AuthenticationError(
                    f"the token's {claim} is neither a text nor a list of texts"
                )
    return frozenset(scopes)
