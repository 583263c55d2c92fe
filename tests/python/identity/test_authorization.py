"""Whose figures an identity gets."""

import pytest

from fiml.errors import AuthorizationError, InvalidUserIdError
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE, authorized_user_id
from fiml.identity.tokens import Identity

SCOPES = [set(), {PLATFORM_SCOPE}, {USERS_SCOPE}, {PLATFORM_SCOPE, USERS_SCOPE}]


@pytest.mark.parametrize("scopes", SCOPES)
def test_the_scopes_decide_and_nothing_else(scopes: set[str]) -> None:
    identity = Identity("analyst_001", frozenset({*scopes, "profile", "analytics:user", "*"}))
    assert authorized_user_id(identity) == (None if PLATFORM_SCOPE in scopes else "analyst_001")
    assert authorized_user_id(identity, "analyst_001") == "analyst_001"
    if USERS_SCOPE in scopes:
        assert authorized_user_id(identity, "analyst_002") == "analyst_002"
        return
    for other in ("analyst_002", "Analyst_001", "analyst_001 ", "analyst_00\uff11", "null"):
        with pytest.raises(AuthorizationError, match="need the scope analytics:users") as refusal:
            authorized_user_id(identity, other)
        assert other not in str(refusal.value)


@pytest.mark.parametrize("wanted", ["", "x" * 256, "a\0b", 7, True, ["analyst_001"], {}])
def test_what_is_no_user_id_is_told_so(wanted: object) -> None:
    for scopes in SCOPES:
        with pytest.raises(InvalidUserIdError):
            authorized_user_id(Identity("analyst_001", frozenset(scopes)), wanted)
