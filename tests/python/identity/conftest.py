"""An issuer for all tests, and its keys in files."""

from pathlib import Path

import pytest
from identity.issuer import Issuer


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def jwks_file(issuer: Issuer, tmp_path: Path) -> Path:
    return issuer.write_jwks(tmp_path)


@pytest.fixture
def secret_file(issuer: Issuer, tmp_path: Path) -> Path:
    return issuer.write_secret(tmp_path)
