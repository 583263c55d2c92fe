"""How a command ended and what it told, and expired sessions for one to find."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
from click.testing import Result

__all__ = ["NOWHERE", "Connection", "Run", "add_expired", "failed", "succeeded"]

Run = Callable[..., Result]
Connection = psycopg.Connection[tuple[Any, ...]]
NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"

EXPIRED = """
insert into sessions (
    id, user_id, type, created_at, expires_at, assets, tags, query_history, total_queries
)
select
    gen_random_uuid(), 'analyst_001', 'equity', now() - interval '2 days', now() - interval '1 day',
    %s::jsonb, '["tech"]', '[{"query_type": "price"}]', 2
from generate_series(1, %s)
"""


def add_expired(source: Connection, count: int, *assets: str) -> None:
    source.execute(EXPIRED, [json.dumps(assets or ["AAPL"]), count])


def failed(result: Result, exit_code: int = 1) -> str:
    """What a failure told: one or two sentences on stderr, and nothing on stdout."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    told = result.stderr.splitlines()[-1]
    assert told.startswith("Error: ")
    assert "secret" not in result.stderr
    return told.removeprefix("Error: ")


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout
