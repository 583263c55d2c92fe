"""What becomes of an HTTP request by its name, size or path, whoever is calling."""

import httpx2
import psycopg
import pytest
from identity.issuer import Issuer
from identity.mcp_calls import HEADERS, MODES, access_of, answered, call_message, server_of
from identity.serving import serving

from fiml.mcp.http import HTTP_PATH, build_http_app
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


@MODES
async def test_a_request_under_another_name_is_turned_away_whatever_its_token(
    settings: Settings, issuer: Issuer, mode: str
) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}"}
    if mode == "auto":
        headers["Mcp-Protocol-Version"] = "2026-07-28"
    async with server_of(settings) as url, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        for given, statuses in (
            ({"Host": "evil.example"}, {421}),
            ({"Host": "evil.example:80"}, {421}),
            ({"Host": "127.0.0.1.evil.example:80"}, {421}),
            ({"Origin": "https://evil.example"}, {403}),
            ({"Origin": "null"}, {403}),
            ({"Host": "analytics.example", "Origin": "https://evil.example"}, {403}),
            ({"Host": "analytics.example"}, {200, 400}),
            (
                {"Host": "analytics.example", "Origin": "https://analytics.example"},
                {200, 400},
            ),
        ):
            response = await http.post(url, headers=given, json=call_message())
            assert response.status_code in statuses, given


@pytest.mark.parametrize(
    ("listening", "name", "status"),
    [
        ("192.0.2.1", "192.0.2.1:8765", 200),
        ("2001:db8::1", "[2001:db8::1]:8765", 200),
        ("127.0.0.1", "192.0.2.1:8765", 421),
        ("0.0.0.0", "0.0.0.0:8765", 421),  # noqa: S104
        ("::", "[::]:8765", 421),
        ("0.0.0.0", "127.0.0.1:8765", 200),  # noqa: S104
    ],
)
async def test_the_address_that_it_listens_on_is_a_name_of_it(
    settings: Settings, issuer: Issuer, listening: str, name: str, status: int
) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}", "Host": name}
    app = build_http_app(settings, access_of(settings), listening)
    async with serving(app) as origin, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        response = await http.post(origin + HTTP_PATH, json=call_message())
        assert response.status_code == status


async def test_a_message_that_is_too_large_is_not_read(settings: Settings, issuer: Issuer) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {issuer.token()}"}
    async with server_of(settings) as url, httpx2.AsyncClient(headers=headers, timeout=60) as http:
        message = call_message(userId="x" * 100_000)
        assert (await http.post(url, json=message)).status_code == 413
        assert answered(await http.post(url, json=call_message()))["user_id"] == "analyst_001"


async def test_probes_need_no_token_and_tell_nothing_else(settings: Settings) -> None:
    async with (
        serving(build_http_app(settings, access_of(settings))) as origin,
        httpx2.AsyncClient(base_url=origin, timeout=60) as http,
    ):
        assert (await http.get("/healthz")).json() == {"status": "alive"}
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        with psycopg.connect(settings.conninfo, autocommit=True) as connection:
            connection.execute("update analytics.migrations set version = version + 1000")
        while (ready := await http.get("/readyz")).status_code == 200:
            pass
        assert ready.json() == {
            "status": "not ready",
            "reason": "The database is not at the version of this package.",
        }
