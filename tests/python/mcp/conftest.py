"""A database with a little history, for a server to answer from."""

import psycopg
import pytest

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
