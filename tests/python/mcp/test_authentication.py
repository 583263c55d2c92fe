"""Over HTTP, who is calling: what proves nothing, where tokens come from, what no log repeats."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx2
import psycopg
import pytest
from identity.issuer import ATTACKS, AUDIENCE, ISSUER, Issuer
from identity.mcp_calls import HEADERS, NOWHERE, call_message, server_of

from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.mcp.http import HTTP_PATH
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


def described(response: httpx2.Response) -> tuple[int, str, str]:
    return response.status_code, response.headers.get("www-authenticate", ""), response.text


async def test_whatever_proves_no_identity_is_refused_alike(
    settings: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token()
    async with (
        server_of(replace(settings, conninfo=NOWHERE, timeout_seconds=1)) as url,
        httpx2.AsyncClient(headers=HEADERS) as http,
    ):
        nobody = described(await http.post(url, json=call_message()))
        assert nobody[0] == 401
        assert nobody[1].startswith('Bearer error="invalid_token"')
        with caplog.at_level(logging.INFO, "fiml.audit"):
            for name, (make, reason) in ATTACKS.items():
                caplog.clear()
                attack = make(issuer)
                headers = {"Authorization": f"Bearer {attack}"}
                response = await http.post(url, headers=headers, json=call_message())
                assert described(response) == nobody, name
                (line,) = [record.getMessage() for record in caplog.records]
                assert json.loads(line)["reason"] == reason, name
                assert attack not in line
        for headers in (
            {"Authorization": token},
            {"Authorization": f"Basic {token}"},
            {"Authorization": f"Token {token}"},
            {"Authorization": "Bearer"},
            {"X-Authorization": f"Bearer {token}"},
            {"Proxy-Authorization": f"Bearer {token}"},
            {"Cookie": f"access_token={token}; Authorization=Bearer {token}"},
        ):
            response = await http.post(url, headers=headers, json=call_message())
            assert described(response) == nobody, headers.keys()
        for parameter in ("access_token", "token", "bearer", "authorization"):
            response = await http.post(f"{url}?{parameter}={token}", json=call_message())
            assert described(response) == nobody, parameter
        message = {**call_message(), "access_token": token}
        assert described(await http.post(url, json=message)) == nobody


@pytest.fixture
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("fiml", "fiml.audit", "uvicorn", "starlette", "asyncio"):
            stack.enter_context(caplog.at_level(logging.DEBUG, name))
        yield


@pytest.mark.usefixtures("_everything_is_logged")
async def test_no_log_names_a_user_or_repeats_a_token(
    settings: Settings, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    good = issuer.token("analyst_001")
    admin = issuer.token("analyst_002", USERS_SCOPE, PLATFORM_SCOPE)
    expired = issuer.token("analyst_001", exp=1)
    async with (
        server_of(settings, burst=8) as url,
        httpx2.AsyncClient(headers=HEADERS, timeout=60) as http,
    ):
        for token, arguments in (
            (good, {}),
            (good, {"userId": "analyst_002"}),
            (good, {"analyst_002": good}),
            (good, {"userId": "analyst_002\0"}),
            (good, {"sessionType": "analyst_002"}),
            (admin, {"userId": "analyst_001"}),
            (admin, {}),
            (expired, {"userId": "analyst_001"}),
            (good[:-5], {}),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            await http.post(url, headers=headers, json=call_message(**arguments))
        with psycopg.connect(settings.conninfo, autocommit=True) as other:
            other.execute("drop table session_metrics cascade")
        headers = {"Authorization": f"Bearer {good}"}
        for _ in range(5):
            await http.post(url, headers=headers, json=call_message())
    lines = [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "fiml.audit"
    ]
    outcomes = [line["outcome"] for line in lines]
    assert outcomes == [
        "answered",
        "refused",
        "invalid",
        "invalid",
        "invalid",
        "answered",
        "answered",
        "unauthenticated",
        "unauthenticated",
        *["failed"] * 3,
        *["limited"] * 2,
    ]
    # Who was looked at is who is asking elsewhere.
    assert lines[5]["other"] == lines[0]["identity"]
    assert lines[5]["identity"] == lines[6]["identity"] != lines[0]["identity"]
    everything = "\n".join(
        f"{record.name} {record.getMessage()} {record.exc_text}" for record in caplog.records
    )
    assert "analyst_" not in everything
    for token in (good, admin, expired):
        for part in token.split("."):
            assert part[:20] not in everything


async def test_clients_are_told_where_a_token_comes_from(settings: Settings) -> None:
    async with server_of(settings) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        response = await http.post(url, json=call_message())
        place = "/.well-known/oauth-protected-resource/mcp"
        header = response.headers["www-authenticate"]
        assert f'resource_metadata="https://analytics.example{place}"' in header
        metadata = (await http.get(url.removesuffix(HTTP_PATH) + place)).json()
    assert metadata["resource"] == AUDIENCE
    assert metadata["authorization_servers"] == [ISSUER]
    assert metadata["scopes_supported"] == [PLATFORM_SCOPE, USERS_SCOPE]
    assert metadata["bearer_methods_supported"] == ["header"]


@pytest.mark.parametrize(
    ("audience", "issuer_name"), [("session-analytics", ISSUER), (AUDIENCE, ""), ("a", "b")]
)
async def test_without_urls_they_are_not(
    settings: Settings, audience: str, issuer_name: str
) -> None:
    known = replace(settings, auth_audience=audience, auth_issuer=issuer_name)
    async with server_of(known) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        response = await http.post(url, json=call_message())
        assert response.status_code == 401
        assert "resource_metadata" not in response.headers["www-authenticate"]
