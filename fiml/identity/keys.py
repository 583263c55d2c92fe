"""The keys that tokens are verified with: a JSON Web Key Set, or one shared secret."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from jwt import PyJWK, PyJWTError

from fiml.errors import AuthenticationError, SettingsError
from fiml.identity._files import Version, read_public, read_secret, version_of
from fiml.settings import Settings

__all__ = ["ALGORITHMS", "KeyFile", "KeySet", "Keys", "SharedSecret", "keys_of"]

# Signatures that only the holder of a private key can make. A shared secret is HS256, and the two
# are never mixed: that would let a public key be taken for a secret.
ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_SHORTEST_SECRET: Final = 32

_JWKS_FILE: Final = "SESSION_ANALYTICS_AUTH_JWKS_FILE"
_SECRET_FILE: Final = "SESSION_ANALYTICS_AUTH_SECRET_FILE"  # noqa: S105 - a setting's name
_SECRET: Final = "SESSION_ANALYTICS_AUTH_SECRET"  # noqa: S105 - a setting's name

_logger = logging.getLogger(__name__)


class Keys(Protocol):
    """Where a token's key comes from."""

    def find(self, key_id: str | None) -> PyJWK:
        """Return the key, which carries its one algorithm.

        Args:
            key_id: the token's `kid`.

        Raises:
            AuthenticationError: there is none.
        """


class SharedSecret:
    """One key, whatever a token calls it."""

    def __init__(self, secret: bytes, name: str) -> None:
        """Take the secret.

        Raises:
            SettingsError: it has fewer than 32 bytes (RFC 7518, 3.2); `name` is the setting.
        """
        if len(secret) < _SHORTEST_SECRET:
            raise SettingsError(
                f"{name}: the secret has {len(secret)} bytes; expected at least {_SHORTEST_SECRET}"
            )
        encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
        self._key = PyJWK({"kty": "oct", "k": encoded}, "HS256")

    def find(self, key_id: str | None) -> PyJWK:
        """Return the key."""
        return self._key


class KeySet:
    """Public keys by their `kid`."""

    def __init__(self, keys: Sequence[PyJWK]) -> None:
        """Take the keys, no two with the same `kid`."""
        self._keys = tuple(keys)

    @classmethod
    def from_json(cls, text: bytes, name: str) -> KeySet:
        """Read a JSON Web Key Set (RFC 7517); keys for anything but signatures are left out.

        Raises:
            SettingsError: it is none, holds no usable key, the same `kid` twice, or a secret or
                private key. The message begins with `name`, the setting, and repeats nothing.
        """
        try:
            members = json.loads(text)["keys"]
            known = [dict(member) for member in members]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SettingsError(f"{name}: expected a JSON Web Key Set") from None
        if any(member.get("kty") == "oct" or "d" in member for member in known):
            raise SettingsError(
                f"{name}: it holds a secret or private key, but only public ones belong there; "
                f"a shared secret is set with {_SECRET_FILE}"
            )
        keys = [key for member in known if (key := _signature_key(member)) is not None]
        if not keys:
            raise SettingsError(f"{name}: it holds no key that signatures can be verified with")
        if len({key.key_id for key in keys}) < len(keys):
            raise SettingsError(f"{name}: two keys have the same kid")
        return cls(keys)

    def find(self, key_id: str | None) -> PyJWK:
        """Return the key of this id; a token without one may mean the only key.

        Raises:
            AuthenticationError: no key has this id, or it could be any of several.
        """
        matching = [key for key in self._keys if key_id is None or key.key_id == key_id]
        if len(matching) != 1:
            raise AuthenticationError("the token is signed with an unknown key")
        return matching[0]


class KeyFile:
    """The keys of a file, read again when it changes.

    While a changed file cannot be used, no token is valid: what replaced a key may have withdrawn
    it.
    """

    def __init__(self, path: Path, read: Callable[[Path], Keys]) -> None:
        """Read the file.

        Raises:
            SettingsError: it cannot be used.
        """
        self._path = path
        self._read = read
        self._version: Version | None = version_of(path)
        self._keys: Keys | None = read(path)

    def find(self, key_id: str | None) -> PyJWK:
        """Return the file's key of this id.

        Raises:
            AuthenticationError: there is none, or the file cannot be used any more.
        """
        version = version_of(self._path)
        if version != self._version:
            self._version = version
            self._keys = self._changed()
        if self._keys is None:
            raise AuthenticationError("the keys of tokens cannot be read")
        return self._keys.find(key_id)

    def _changed(self) -> Keys | None:
        try:
            return self._read(self._path)
        except SettingsError as error:
            _logger.error("no token is valid any more: %s", error)
            return None


def keys_of(settings: Settings) -> Keys | None:
    """Return the keys that the settings name; None where they name none.

    Raises:
        SettingsError: they name several, or one that cannot be used.
    """
    given = [
        name
        for name, value in (
            (_JWKS_FILE, settings.auth_jwks_file),
            (_SECRET_FILE, settings.auth_secret_file),
            (_SECRET, settings.auth_secret),
        )
        if value
    ]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} are set; expected one of them")
    if settings.auth_jwks_file is not None:
        return KeyFile(
            settings.auth_jwks_file,
            lambda path: KeySet.from_json(read_public(path, _JWKS_FILE), _JWKS_FILE),
        )
    if settings.auth_secret_file is not None:
        return KeyFile(
            settings.auth_secret_file,
            lambda path: SharedSecret(read_secret(path, _SECRET_FILE), _SECRET_FILE),
        )
    if settings.auth_secret:
        return SharedSecret(os.fsencode(settings.auth_secret), _SECRET)
    return None


def _signature_key(member: dict[str, object]) -> PyJWK | None:
    if member.get("use", "sig") != "sig" or not isinstance(member.get("kid"), str | None):
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    algorithm = member.get("alg")
    if algorithm is not None and not (isinstance(algorithm, str) and algorithm in ALGORITHMS):
        return None
    try:
        key = PyJWK(member)
    except PyJWTError:
        # Of a kind that is not known here, which is to be ignored (RFC 7517, 5).
        return None
    is_usable = key.algorithm_name in ALGORITHMS and key.Algorithm.check_key_length(key.key) is None
    return key if is_usable else None
