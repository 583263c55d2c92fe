"""An issuer for all tests, and its keys in files."""

import json
from pathlib import Path

import pytest
from identity.issuer import Issuer


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def jwks_file(issuer: Issuer, tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(issuer.jwks()))
    path.chmod(0o644)
    return path


@pytest.fixture
def secret_file(issuer: Issuer, tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(issuer.secret + b"\n")
    path.chmod(0o600)
    return path
