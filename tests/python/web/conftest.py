"""A database with weeks of history, for a page to show, and an issuer of tokens."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from identity.issuer import AUDIENCE, ISSUER, Issuer
from identity.serving import serving

from fiml.identity.access import Access
from fiml.settings import Settings
from fiml.web.app import build_app

# Two sessions a day or more for ninety days, of three users and of nobody, some of them late.
HISTORY = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags, completed_normally, abandoned
)
select
    gen_random_uuid(),
    (array['analyst_001', 'analyst_002', 'analyst_003', null])[1 + n % 4],
    (array['equity', 'crypto', 'portfolio', 'comparative', 'macro'])[1 + n * n % 5],
    now() - n * interval '9 hours' - interval '7 minutes',
    60 + n * 37 % 5000,
    n % 9,
    to_jsonb((array['AAPL', 'TSLA', 'MSFT', 'BTC', '<b>&"x'])[1 + n % 5 : 2 + n % 7]),
    jsonb_build_object('price', 1 + n % 7, 'news', 1 + n % 3),
    to_jsonb((array['tech', 'growth', 'Ελλάδα'])[1 + n % 3 : 1 + n % 3]),
    n % 3 > 0,
    n % 9 < 2 and n % 3 = 0
from generate_series(0, 240) as n;
insert into sessions (
    id, user_id, type, created_at, expires_at, assets, tags, query_history, total_queries,
    is_archived, archived_at
)
select
    gen_random_uuid(),
    (array['analyst_001', 'analyst_002', null])[1 + n % 3],
    (array['equity', 'crypto'])[1 + n % 2],
    now() - n * interval '20 hours',
    now() - n * interval '20 hours' + interval '30 hours',
    '[]', '[]', '[]', 0,
    n > 3,
    case when n > 3 then now() - n * interval '20 hours' + interval '5 hours' end
from generate_series(0, 60) as n
"""
ONE_MORE = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags, completed_normally, abandoned
)
values (
    gen_random_uuid(), %s, 'crypto', now() - interval '1 minute', 100, 3,
    '["NEWCOMER"]', '{"price": 3}', '["tech"]', true, false
)
"""

Serve = Callable[..., AbstractAsyncContextManager[str]]


def add_session(conninfo: str, user_id: str | None = "analyst_001") -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(ONE_MORE, [user_id])


def client(origin: str, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return httpx2.AsyncClient(base_url=origin, headers=headers, timeout=60)


@pytest.fixture
def conninfo(migrated_database: str) -> str:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(HISTORY)
    return migrated_database


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def settings(conninfo: str) -> Settings:
    """Those of a server that asks nobody."""
    return Settings(conninfo=conninfo, timeout_seconds=60)


@pytest.fixture
def guarded(conninfo: str, issuer: Issuer, tmp_path: Path) -> Settings:
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


@pytest.fixture
def serve() -> Serve:
    """`async with serve(settings) as origin`: the application, in this process."""

    @asynccontextmanager
    async def serve(settings: Settings, port: int = 0) -> AsyncIterator[str]:
        async with serving(build_app(settings, Access.from_settings(settings)), port) as origin:
            yield origin

    return serve


def shown(response: httpx2.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()
