"""Key files: what may be in them, who may read them, and that a change is taken over."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from identity.issuer import Issuer
from jwt.algorithms import RSAAlgorithm

from fiml.errors import AuthenticationError, SettingsError
from fiml.identity.keys import KeySet, SharedSecret, keys_of
from fiml.settings import Settings


def set_of(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_come_from_one_place(issuer: Issuer, jwks_file: Path, secret_file: Path) -> None:
    assert keys_of(Settings()) is None
    with pytest.raises(SettingsError, match=r"JWKS_FILE and \w+_SECRET_FILE are set"):
        keys_of(Settings(auth_jwks_file=jwks_file, auth_secret_file=secret_file))
    with pytest.raises(SettingsError, match="expected one of them") as refusal:
        keys_of(Settings(auth_jwks_file=jwks_file, auth_secret=issuer.secret.decode()))
    assert issuer.secret.decode() not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o660, 0o777])
def test_a_secret_that_others_have_access_to_is_refused(secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)
    with pytest.raises(SettingsError, match="others may read or write") as refusal:
        keys_of(Settings(auth_secret_file=secret_file))
    assert "chmod it to 0600" in str(refusal.value)
    secret_file.chmod(0o400)
    assert keys_of(Settings(auth_secret_file=secret_file)) is not None


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_public_keys_that_others_may_change_are_refused(jwks_file: Path, mode: int) -> None:
    jwks_file.chmod(mode)
    with pytest.raises(SettingsError, match="others may write"):
        keys_of(Settings(auth_jwks_file=jwks_file))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(jwks_file: Path, secret_file: Path) -> None:
    for path in (jwks_file, secret_file):
        os.chown(path, 12_345, -1)
    for settings in (Settings(auth_jwks_file=jwks_file), Settings(auth_secret_file=secret_file)):
        with pytest.raises(SettingsError, match="belongs to another user"):
            keys_of(settings)


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def _huge(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 2_000_000)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "No such file"),
        (_dangling_link, "No such file"),
        (_folder, "no regular file"),
        (_pipe, "no regular file"),
        (_huge, "more than 1048576 bytes"),
    ],
)
def test_what_is_no_file_of_keys_is_refused(
    tmp_path: Path, make: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / "keys"
    make(path)
    for settings in (Settings(auth_jwks_file=path), Settings(auth_secret_file=path)):
        with pytest.raises(SettingsError, match=told) as refusal:
            keys_of(settings)
        assert str(refusal.value).startswith("SESSION_ANALYTICS_AUTH_")


def test_a_short_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has 5 bytes; expected at least 32") as refusal:
        keys_of(Settings(auth_secret="short"))
    assert "short" not in str(refusal.value)
    # A line break at its end is no part of it.
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 31 + b"\n")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="has 31 bytes"):
        keys_of(Settings(auth_secret_file=path))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"keys": null}',
        b'{"keys": [7]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(SettingsError, match="expected a JSON Web Key Set"):
        KeySet.from_json(text, "NAME")


def test_a_set_with_a_secret_or_private_key_is_refused(issuer: Issuer) -> None:
    private: dict[str, Any] = RSAAlgorithm.to_jwk(issuer.rsa_key, as_dict=True)
    for key in ({"kty": "oct", "k": "AAAA", "kid": "x"}, {**private, "kid": "x"}):
        with pytest.raises(SettingsError, match="a secret or private key") as refusal:
            KeySet.from_json(set_of(*issuer.jwks()["keys"], key), "NAME")
        assert private["d"] not in str(refusal.value)


def test_keys_that_verify_no_signature_are_left_out(issuer: Issuer) -> None:
    rsa_key, ec_key = issuer.jwks()["keys"]
    weak = RSAAlgorithm.to_jwk(_weak_public_key(), as_dict=True)
    useless = [
        {**rsa_key, "kid": "for encryption", "use": "enc"},
        {**rsa_key, "kid": "for signing", "key_ops": ["sign"]},
        {**rsa_key, "kid": "of a strange kind", "kty": "XYZ"},
        {**rsa_key, "kid": "of no algorithm", "alg": "none"},
        {**rsa_key, "kid": "of a secret's algorithm", "alg": "HS256"},
        {**ec_key, "kid": "off the curve", "x": ec_key["y"]},
        {"kty": "RSA", "kid": "of nothing"},
        {**weak, "kid": "short"},
        {**rsa_key, "kid": "of two algorithms", "alg": ["RS256", "HS256"]},
        {**rsa_key, "kid": "of a wrong number", "n": 7},
        {**rsa_key, "kid": ["of a strange name"]},
    ]
    keys = KeySet.from_json(set_of(ec_key, *useless), "NAME")
    assert keys.find("ec").algorithm_name == "ES256"
    assert keys.find(None).key_id == "ec"
    for key in useless:
        with pytest.raises(AuthenticationError):
            keys.find(key["kid"])
        with pytest.raises(SettingsError, match="no key that signatures can be verified with"):
            KeySet.from_json(set_of(key), "NAME")


def _weak_public_key() -> Any:
    return rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - that is the point


def test_two_keys_of_one_name_are_refused(issuer: Issuer) -> None:
    rsa_key, ec_key = issuer.jwks()["keys"]
    with pytest.raises(SettingsError, match="two keys have the same kid"):
        KeySet.from_json(set_of(rsa_key, {**ec_key, "kid": "rsa"}), "NAME")


def test_a_changed_file_is_taken_over_and_a_broken_one_ends_all_trust(
    issuer: Issuer, jwks_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rsa_key, ec_key = issuer.jwks()["keys"]
    keys = keys_of(Settings(auth_jwks_file=jwks_file))
    assert keys is not None
    assert keys.find("rsa").key_id == "rsa"

    jwks_file.write_bytes(set_of({**ec_key, "kid": "next"}))
    assert keys.find("next").key_id == "next"
    with pytest.raises(AuthenticationError):
        keys.find("rsa")

    jwks_file.write_bytes(b"{")
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="cannot be read"):
            keys.find("next")
    assert len(caplog.records) == 1

    jwks_file.unlink()
    with pytest.raises(AuthenticationError, match="cannot be read"):
        keys.find("next")
    jwks_file.write_bytes(set_of(rsa_key))
    assert keys.find("rsa").key_id == "rsa"

    jwks_file.chmod(0o666)
    with pytest.raises(AuthenticationError, match="cannot be read"):
        keys.find("rsa")


def test_a_secret_is_its_own_key_whatever_a_token_calls_it(issuer: Issuer) -> None:
    keys = SharedSecret(issuer.secret, "NAME")
    assert keys.find(None).key == keys.find("x").key == issuer.secret
    assert keys.find(None).algorithm_name == "HS256"
