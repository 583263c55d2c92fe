"""A database with a little history, for a server to answer from, and an issuer of tokens."""

from pathlib import Path

import psycopg
import pytest
from identity.issuer import AUDIENCE, ISSUER, Issuer

from fiml.settings import Settings

_HISTORY = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags, completed_normally, abandoned
)
values
    (
        gen_random_uuid(), 'analyst_001', 'equity', now() - interval '1 day', 100, 3,
        '["AAPL", "MSFT"]', '{"price": 3}', '["tech"]', true, false
    ),
    (
        gen_random_uuid(), 'analyst_002', 'crypto', now() - interval '2 days', 60, 1,
        '["BTC"]', '{"technical": 1}', '[]', false, true
    ),
    (
        gen_random_uuid(), 'null', 'equity', now() - interval '3 days', 50, 2,
        '["AAPL"]', '{"price": 2}', '["növel"]', true, false
    )
"""


@pytest.fixture
def conninfo(migrated_database: str) -> str:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(_HISTORY)
    return migrated_database


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def settings(issuer: Issuer, tmp_path: Path, conninfo: str) -> Settings:
    """Those of a server that the issuer's tokens are for."""
    return Settings(
        conninfo=conninfo,
        timeout_seconds=60,
        auth_jwks_file=issuer.write_jwks(tmp_path),
        auth_audience=AUDIENCE,
        auth_issuer=ISSUER,
        calls_burst=1000,
        calls_per_minute=1000,
    )
