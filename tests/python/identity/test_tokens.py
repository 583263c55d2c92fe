"""Which tokens prove an identity, and that no other one does."""

import time
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from identity.issuer import ATTACKS, AUDIENCE, HOUR, ISSUER, Issuer

from fiml.errors import AuthenticationError, SettingsError
from fiml.identity.tokens import Identity, TokenVerifier
from fiml.settings import Settings


def verifier_of(settings: Settings) -> TokenVerifier:
    verifier = TokenVerifier.from_settings(settings)
    assert verifier is not None
    return verifier


@pytest.fixture
def public_keys(jwks_file: Path) -> Settings:
    return Settings(auth_jwks_file=jwks_file, auth_audience=AUDIENCE, auth_issuer=ISSUER)


@pytest.fixture
def shared_secret(secret_file: Path) -> Settings:
    return Settings(auth_secret_file=secret_file, auth_audience=AUDIENCE, auth_issuer=ISSUER)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_signed_with_a_key_of_the_set_proves_its_subject(
    issuer: Issuer, public_keys: Settings, algorithm: str
) -> None:
    token = issuer.signed(issuer.claims("analyst_001", "analytics:users"), algorithm)
    identity = verifier_of(public_keys).verify(token)
    assert identity == Identity("analyst_001", frozenset({"analytics:users"}))
    assert "analyst_001" not in repr(identity)


def test_a_token_signed_with_the_shared_secret_proves_its_subject(
    issuer: Issuer, shared_secret: Settings
) -> None:
    in_environment = replace(
        shared_secret, auth_secret_file=None, auth_secret=issuer.secret.decode()
    )
    for settings in (shared_secret, in_environment):
        verifier = verifier_of(settings)
        for token in (
            issuer.signed(issuer.claims(), "HS256"),
            jwt.encode(issuer.claims(), issuer.secret, "HS256"),
        ):
            assert verifier.verify(token) == Identity("analyst_001")
        assert issuer.secret.decode() not in repr(settings)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_with_its_reason_and_nothing_of_the_token(
    issuer: Issuer, public_keys: Settings, attack: str
) -> None:
    make, reason = ATTACKS[attack]
    token = make(issuer)
    with pytest.raises(AuthenticationError) as refusal:
        verifier_of(public_keys).verify(token)
    assert str(refusal.value) == reason
    assert refusal.value.__cause__ is None


def test_where_the_secret_is_shared_nothing_else_signs(
    issuer: Issuer, shared_secret: Settings
) -> None:
    verifier = verifier_of(shared_secret)
    for token in (
        issuer.token(),
        issuer.forged({"alg": "none"}, None),
        issuer.forged({"alg": "HS256"}, b""),
        issuer.forged({"alg": "HS256"}, issuer.public_pem()),
        jwt.encode(issuer.claims(), issuer.secret * 2, "HS512"),
    ):
        with pytest.raises(AuthenticationError, match=r"algorithm|signature"):
            verifier.verify(token)


def test_without_an_issuer_any_that_has_the_key_will_do(
    issuer: Issuer, public_keys: Settings
) -> None:
    verifier = verifier_of(replace(public_keys, auth_issuer=""))
    for iss in ("https://elsewhere.example", None):
        assert verifier.verify(issuer.token(iss=iss)) == Identity("analyst_001")


def test_an_audience_may_be_one_of_several(issuer: Issuer, public_keys: Settings) -> None:
    token = issuer.token(aud=["https://elsewhere.example", AUDIENCE])
    assert verifier_of(public_keys).verify(token) == Identity("analyst_001")


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "analytics:platform  analytics:users"}, {"platform", "users"}),
        ({"scope": ["analytics:platform", "analytics:users"]}, {"platform", "users"}),
        ({"scope": None, "scp": ["analytics:users"]}, {"users"}),
        ({"scope": None, "scp": "analytics:users"}, {"users"}),
        ({"scope": "analytics:platform", "scp": ["analytics:users"]}, {"platform", "users"}),
        ({"scope": ""}, set()),
        ({"scope": None}, set()),
        ({"scope": []}, set()),
    ],
)
def test_scopes_are_a_text_or_a_list(
    issuer: Issuer, public_keys: Settings, claims: dict[str, object], scopes: set[str]
) -> None:
    identity = verifier_of(public_keys).verify(issuer.token(**claims))
    assert identity.scopes == {f"analytics:{scope}" for scope in scopes}


def test_clocks_may_differ_by_seconds_but_not_by_more(
    issuer: Issuer, public_keys: Settings
) -> None:
    verifier = verifier_of(public_keys)
    now = int(time.time())
    assert verifier.verify(issuer.token(nbf=now + 15)) == Identity("analyst_001")
    with pytest.raises(AuthenticationError, match="expired"):
        verifier.verify(issuer.token(exp=now - 31))
    with pytest.raises(AuthenticationError, match="not valid yet"):
        verifier.verify(issuer.token(nbf=now + HOUR))


def test_a_token_that_is_empty_or_no_ascii_is_refused(public_keys: Settings) -> None:
    for token in ("", "ü.ü.ü", "\ud800.a.b"):
        with pytest.raises(AuthenticationError, match="cannot be read"):
            verifier_of(public_keys).verify(token)


def test_without_keys_there_is_no_verifier_and_without_an_audience_an_error(
    jwks_file: Path,
) -> None:
    assert TokenVerifier.from_settings(Settings()) is None
    with pytest.raises(SettingsError, match="SESSION_ANALYTICS_AUTH_AUDIENCE is not set"):
        TokenVerifier.from_settings(Settings(auth_jwks_file=jwks_file))
