"""One line for each call, which names nobody."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from identity.issuer import AUDIENCE, Issuer

from fiml.errors import (
    AuthenticationError,
    AuthorizationError,
    DatabaseUnavailableError,
    InvalidDaysError,
    LimitExceededError,
    SettingsError,
)
from fiml.identity.access import Access
from fiml.identity.audit import AuditLog
from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.identity.tokens import Identity
from fiml.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
KNOWN = ("userId", "sessionType", "days")


@pytest.fixture
def settings(secret_file: Path) -> Settings:
    return Settings(auth_secret_file=secret_file, auth_audience=AUDIENCE, calls_burst=1000)


@pytest.fixture
def access(settings: Settings) -> Access:
    made = Access.from_settings(settings)
    assert made is not None
    return made


@pytest.fixture(autouse=True)
def _log_at_info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "fiml.audit"):
        yield


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [record.getMessage() for record in caplog.records if record.name == "fiml.audit"]
    assert all("\n" not in line for line in lines)
    return [json.loads(line) for line in lines]


def test_an_answered_call_is_one_line_of_kinds_and_pseudonyms(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity("analyst_001", frozenset({USERS_SCOPE}))
    arguments = {"userId": "analyst_002", "days": 7, "sessionType": None, "analyst_003": [1]}
    with access.call(identity, "a-tool", arguments, KNOWN) as call:
        assert call.user_id("analyst_002") == "analyst_002"
    (line,) = lines_of(caplog)
    assert line["operation"] == "a-tool"
    assert line["arguments"] == {
        "userId": "string",
        "sessionType": "null",
        "days": "number",
        "unknown": "1",
    }
    assert (line["outcome"], line["about"]) == ("answered", "other")
    assert line["duration_ms"] >= 0
    assert line["identity"] != line["other"]
    assert "analyst_" not in caplog.text


def test_the_line_is_the_documented_one(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (documented,) = [line for line in page.splitlines() if line.startswith('{"at": ')]
    identity = Identity("analyst_001", frozenset({USERS_SCOPE}))
    arguments = {"userId": "analyst_002", "days": 7}
    with access.call(identity, "get-session-analytics", arguments, KNOWN) as call:
        call.user_id("analyst_002")
    (line,) = lines_of(caplog)
    varying = ("at", "identity", "other", "duration_ms")
    shown = json.loads(documented)
    assert [type(value) for value in line.values()] == [type(value) for value in shown.values()]
    assert {name: shown[name] for name in line if name not in varying} == {
        name: value for name, value in line.items() if name not in varying
    }
    assert len(line["identity"]) == len(shown["identity"])


@pytest.mark.parametrize(
    ("scopes", "wanted", "about"),
    [({PLATFORM_SCOPE}, None, "platform"), (set(), None, "own"), (set(), "analyst_001", "own")],
)
def test_the_line_says_whose_figures_were_given(
    access: Access,
    caplog: pytest.LogCaptureFixture,
    scopes: set[str],
    wanted: str | None,
    about: str,
) -> None:
    with access.call(Identity("analyst_001", frozenset(scopes)), "a-tool", {}, KNOWN) as call:
        call.user_id(wanted)
    (line,) = lines_of(caplog)
    assert (line["about"], line["other"]) == (about, None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AuthorizationError("analyst_002"), "refused"),
        (InvalidDaysError("analyst_002"), "invalid"),
        (LimitExceededError("analyst_002"), "limited"),
        (DatabaseUnavailableError("analyst_002"), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (RuntimeError("analyst_002"), "crashed"),
    ],
)
def test_a_call_is_written_down_however_it_ends(
    access: Access, caplog: pytest.LogCaptureFixture, error: BaseException, outcome: str
) -> None:
    with (
        pytest.raises(type(error)),
        access.call(Identity("analyst_001"), "a-tool", {"userId": "analyst_002"}, KNOWN),
    ):
        raise error
    (line,) = lines_of(caplog)
    assert line["outcome"] == outcome
    assert line["about"] is None
    assert "analyst_" not in caplog.text


def test_a_refused_token_is_a_line_with_the_reason(
    access: Access, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.signed(issuer.claims(exp=1), "HS256")
    with pytest.raises(AuthenticationError):
        access.authenticate(token)
    (line,) = lines_of(caplog)
    assert (line["outcome"], line["reason"]) == ("unauthenticated", "the token has expired")
    assert token not in caplog.text


def test_a_pseudonym_is_the_same_while_the_key_is(tmp_path: Path) -> None:
    path = tmp_path / "audit-key"
    path.write_bytes(b"k" * 32)
    path.chmod(0o600)
    one, two = (AuditLog.from_settings(Settings(audit_key_file=path)) for _ in range(2))
    assert one.pseudonym("analyst_001") == two.pseudonym("analyst_001")
    assert one.pseudonym("analyst_001") != one.pseudonym("analyst_002")
    assert AuditLog().pseudonym("analyst_001") != AuditLog().pseudonym("analyst_001")

    path.chmod(0o644)
    with pytest.raises(SettingsError, match="others may read"):
        AuditLog.from_settings(Settings(audit_key_file=path))
    path.write_bytes(b"k" * 31)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="has 31 bytes; expected at least 32"):
        AuditLog.from_settings(Settings(audit_key_file=path))
