"""An issuer of real signed tokens, and what an attacker makes of them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "https://analytics.example/mcp"
ISSUER = "https://login.example"
HOUR = 3600


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class Issuer:
    """Signs with an RSA key, an EC key and a shared secret."""

    def __init__(self) -> None:
        self.rsa_key = rsa.generate_private_key(65537, 2048)
        self.ec_key = ec.generate_private_key(ec.SECP256R1())
        self.secret = b"a shared secret of more than thirty-two bytes"

    def jwks(self) -> dict[str, Any]:
        rsa_key: dict[str, Any] = RSAAlgorithm.to_jwk(self.rsa_key.public_key(), as_dict=True)
        ec_key: dict[str, Any] = ECAlgorithm.to_jwk(self.ec_key.public_key(), as_dict=True)
        return {
            "keys": [
                {**rsa_key, "kid": "rsa", "use": "sig", "alg": "RS256"},
                {**ec_key, "kid": "ec", "use": "sig"},
            ]
        }

    def write_jwks(self, folder: Path) -> Path:
        path = folder / "jwks.json"
        path.write_text(json.dumps(self.jwks()))
        path.chmod(0o644)
        return path

    def write_secret(self, folder: Path) -> Path:
        path = folder / "secret"
        path.write_bytes(self.secret + b"\n")
        path.chmod(0o600)
        return path

    def claims(self, subject: str = "analyst_001", *scopes: str, **more: Any) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "exp": int(time.time()) + HOUR,
            "scope": " ".join(scopes),
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, subject: str = "analyst_001", *scopes: str, **more: Any) -> str:
        """A token signed with the RSA key; a claim that is None is left out."""
        return self.signed(self.claims(subject, *scopes, **more))

    def signed(self, claims: dict[str, Any], algorithm: str = "RS256", **header: Any) -> str:
        key: Any = {"RS256": self.rsa_key, "ES256": self.ec_key, "HS256": self.secret}[algorithm]
        kid = {"RS256": "rsa", "ES256": "ec", "HS256": "secret"}[algorithm]
        return jwt.encode(claims, key, algorithm, headers={"kid": kid, **header})

    def forged(self, header: dict[str, Any], key: bytes | None) -> str:
        """A token that no library would make: any header, with an HMAC or without a signature."""
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, self.claims()))
        signature = hmac.digest(key, signed.encode(), hashlib.sha256) if key is not None else b""
        return f"{signed}.{encoded(signature)}"

    def public_pem(self) -> bytes:
        return self.rsa_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )


def _with_another_subject(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{encoded(json.dumps(issuer.claims('analyst_002')).encode())}.{signature}"


def _with_the_public_key_as_secret(issuer: Issuer) -> str:
    return issuer.forged({"alg": "HS256", "kid": "rsa"}, issuer.public_pem())


def _with_the_modulus_as_secret(issuer: Issuer) -> str:
    modulus = issuer.jwks()["keys"][0]["n"]
    return issuer.forged({"alg": "HS256", "kid": "rsa"}, modulus.encode())


def _with_its_own_key_in_the_header(_issuer: Issuer) -> str:
    attacker = Issuer()
    return attacker.signed(attacker.claims(), jwk=attacker.jwks()["keys"][0])


# Name of the attack: how it is made, and what the audit log says of it.
ATTACKS: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "no algorithm": (
        lambda issuer: issuer.forged({"alg": "none", "kid": "rsa"}, None),
        "the token's algorithm is not allowed",
    ),
    "no algorithm, in capitals": (
        lambda issuer: issuer.forged({"alg": "NONE", "kid": "rsa"}, None),
        "the token's algorithm is not allowed",
    ),
    "no word of an algorithm": (
        lambda issuer: issuer.forged({"kid": "rsa"}, None),
        "the token's algorithm is not allowed",
    ),
    "algorithm of a strange kind": (
        lambda issuer: issuer.forged({"alg": {"RS256": 1}, "kid": "rsa"}, None),
        "the token's algorithm is not allowed",
    ),
    "public key as secret": (
        _with_the_public_key_as_secret,
        "the token's algorithm is not allowed",
    ),
    "modulus as secret": (_with_the_modulus_as_secret, "the token's algorithm is not allowed"),
    "secret that is empty": (
        lambda issuer: issuer.forged({"alg": "HS256", "kid": "rsa"}, b""),
        "the token's algorithm is not allowed",
    ),
    "algorithm of another key": (
        lambda issuer: issuer.signed(issuer.claims(), "ES256", kid="rsa"),
        "the token's algorithm is not allowed",
    ),
    "another algorithm of the same key": (
        lambda issuer: jwt.encode(issuer.claims(), issuer.rsa_key, "RS512", {"kid": "rsa"}),
        "the token's algorithm is not allowed",
    ),
    "key of somebody else": (
        lambda _issuer: Issuer().token(),
        "the token's signature is wrong",
    ),
    "key in its own header": (_with_its_own_key_in_the_header, "the token's signature is wrong"),
    "changed subject": (_with_another_subject, "the token's signature is wrong"),
    "no signature": (
        lambda issuer: issuer.token().rpartition(".")[0] + ".",
        "the token's signature is wrong",
    ),
    "unknown key": (
        lambda issuer: issuer.signed(issuer.claims(), kid="gone"),
        "the token is signed with an unknown key",
    ),
    "key that is a path": (
        lambda issuer: issuer.forged({"alg": "HS256", "kid": "../../dev/null"}, b""),
        "the token is signed with an unknown key",
    ),
    "no key, of several": (
        lambda issuer: jwt.encode(issuer.claims(), issuer.rsa_key, "RS256"),
        "the token is signed with an unknown key",
    ),
    "key of a strange kind": (
        lambda issuer: issuer.forged({"alg": "RS256", "kid": ["rsa"]}, b""),
        "the token cannot be read",
    ),
    "unknown critical extension": (
        lambda issuer: issuer.signed(issuer.claims(), crit=["x"], x=1),
        "the token cannot be read",
    ),
    "expired": (
        lambda issuer: issuer.token(exp=int(time.time()) - HOUR),
        "the token has expired",
    ),
    "no expiry": (lambda issuer: issuer.token(exp=None), "the token has no exp"),
    "expiry that is no time": (
        lambda issuer: issuer.token(exp="tomorrow"),
        "the token cannot be read",
    ),
    "expiry that never comes": (
        lambda issuer: issuer.token(exp=float("inf")),
        "the token cannot be read",
    ),
    "not valid yet": (
        lambda issuer: issuer.token(nbf=int(time.time()) + HOUR),
        "the token is not valid yet",
    ),
    "issued in the future": (
        lambda issuer: issuer.token(iat=int(time.time()) + HOUR),
        "the token is not valid yet",
    ),
    "another audience": (
        lambda issuer: issuer.token(aud="https://elsewhere.example"),
        "the token is for another audience",
    ),
    "audience that begins alike": (
        lambda issuer: issuer.token(aud=AUDIENCE + "/more"),
        "the token is for another audience",
    ),
    "no audience": (lambda issuer: issuer.token(aud=None), "the token has no aud"),
    "another issuer": (
        lambda issuer: issuer.token(iss="https://elsewhere.example"),
        "the token is of another issuer",
    ),
    "no issuer": (lambda issuer: issuer.token(iss=None), "the token has no iss"),
    "no subject": (lambda issuer: issuer.signed(issuer.claims(sub=None)), "the token has no sub"),
    "empty subject": (lambda issuer: issuer.token(""), "the token's sub is no user id"),
    "subject that no user has": (
        lambda issuer: issuer.token("a\0b"),
        "the token's sub is no user id",
    ),
    "endless subject": (
        lambda issuer: issuer.token("x" * 256),
        "the token's sub is no user id",
    ),
    "subject that is no text": (
        lambda issuer: issuer.signed(issuer.claims(sub=7)),
        "the token cannot be read",
    ),
    "scope that is a number": (
        lambda issuer: issuer.token(scope=7),
        "the token's scope is neither a text nor a list of texts",
    ),
    "scopes that are no texts": (
        lambda issuer: issuer.token(scope=["analytics:users", 7]),
        "the token's scope is neither a text nor a list of texts",
    ),
    "oversized": (lambda issuer: issuer.token(more="x" * 20_000), "the token is too long"),
    "garbage": (lambda _issuer: "garbage", "the token cannot be read"),
    "garbage with dots": (lambda _issuer: "a.b.c", "the token cannot be read"),
    "dots": (lambda _issuer: "..", "the token cannot be read"),
    "many dots": (lambda _issuer: "." * 10_000, "the token cannot be read"),
    "garbage header": (
        lambda issuer: encoded(b"\xff\xfe{") + "." + issuer.token().partition(".")[2],
        "the token cannot be read",
    ),
    "header that is a list": (
        lambda issuer: encoded(b"[]") + "." + issuer.token().partition(".")[2],
        "the token cannot be read",
    ),
    "deeply nested header": (
        lambda issuer: encoded(b"[" * 9_000) + "." + issuer.token().partition(".")[2][:100],
        "the token cannot be read",
    ),
}
