"""Who gets what: by header and by cookie, on the page, in the API and over a live connection."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import psycopg
import pytest
from identity.issuer import ATTACKS, Issuer
from web.conftest import Serve, add_session, client, shown
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

FIGURES = ("/api/stats", "/api/timeseries")
# Scopes, the user that is asked for, and whose figures that gives; "refused" for nobody's.
MATRIX = [
    ((), None, "analyst_001"),
    ((), "analyst_001", "analyst_001"),
    ((), "analyst_002", "refused"),
    ((), "nobody", "refused"),
    ((PLATFORM_SCOPE,), None, None),
    ((PLATFORM_SCOPE,), "analyst_001", "analyst_001"),
    ((PLATFORM_SCOPE,), "analyst_002", "refused"),
    ((USERS_SCOPE,), None, "analyst_001"),
    ((USERS_SCOPE,), "analyst_002", "analyst_002"),
    ((USERS_SCOPE,), "nobody", "nobody"),
    ((PLATFORM_SCOPE, USERS_SCOPE), None, None),
    ((PLATFORM_SCOPE, USERS_SCOPE), "analyst_002", "analyst_002"),
]


def origin_of(url: str) -> str:
    return url.replace("http://", "ws://")


@asynccontextmanager
async def signed_in(origin: str, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with the cookie that the login gives, and no header."""
    async with client(origin) as http:
        response = await http.post("/login", data={"token": token}, headers={"Origin": origin})
        assert response.status_code == 303, response.text
        yield http


def live(origin: str, path: str, token: str, **more: Any) -> connect:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return connect(origin_of(origin) + path, additional_headers=headers, proxy=None, **more)


@pytest.mark.parametrize("how", ["header", "cookie"])
async def test_the_scopes_decide_whose_figures_a_call_gets(
    guarded: Settings, serve: Serve, issuer: Issuer, how: str
) -> None:
    async with serve(guarded) as origin:
        for scopes, wanted, whose in MATRIX:
            token = issuer.token("analyst_001", *scopes)
            asking = client(origin, token) if how == "header" else signed_in(origin, token)
            params = {} if wanted is None else {"user": wanted}
            async with asking as http:
                for path in FIGURES:
                    response = await http.get(path, params=params)
                    if whose == "refused":
                        assert response.status_code == 403
                        assert response.json()["error"] == {
                            "code": "forbidden",
                            "message": "Figures of other users need the scope analytics:users. "
                            "No figure was computed.",
                        }
                    else:
                        assert shown(response)["user_id"] == whose
                page = await http.get("/", params=params)
                assert page.status_code == (403 if whose == "refused" else 200)
                if whose == "refused":
                    assert "<data" not in page.text


async def test_live_updates_are_of_whom_the_scopes_say(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with serve(guarded) as origin:
        for scopes, wanted, whose in MATRIX:
            token = issuer.token("analyst_001", *scopes)
            query = "days=7" if wanted is None else f"days=7&user={wanted}"
            async with live(origin, "/api/live", token) as socket:
                await socket.send(json.dumps({"query": query}))
                if whose == "refused":
                    with pytest.raises(ConnectionClosed) as closed:
                        await socket.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 4403
                else:
                    message = json.loads(await socket.recv())
                    assert message["stats"]["user_id"] == whose


EPISODES = """
insert into analytics.alert_episodes (
    rule_name, description, severity, figure, comparison, threshold, window_hours, value, sessions,
    message, fired_at, over_at, ending, over_message
)
values
(
    'quiet', '', 'critical', 'total_sessions', 'below', 5, 24, 1, 1,
    'Fewer <b>sessions</b> than usual', now() - interval '1 hour', null, null, null
),
(
    'slow', '', 'warning', 'avg_duration_seconds', 'above', 9, 24, 10, 7,
    'Sessions take long', now() - interval '2 days', now() - interval '1 day', 'over', 'They do not'
)
"""


async def test_alerts_are_shown_to_who_sees_everybody_s_figures(
    guarded: Settings, issuer: Issuer, serve: Serve, conninfo: str
) -> None:
    own, everybody = issuer.token("analyst_001"), issuer.token("analyst_001", PLATFORM_SCOPE)
    async with serve(guarded) as origin:
        async with signed_in(origin, everybody) as http:
            assert "None so far." in (await http.get("/")).text
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(EPISODES)
        async with signed_in(origin, everybody) as http:
            page = (await http.get("/?days=7")).text
            assert "Fewer &lt;b&gt;sessions&lt;/b&gt; than usual" in page
            assert page.index("Fewer &lt;b&gt;") < page.index("Sessions take long")
            assert "Fewer" not in (await http.get("/?user=analyst_001")).text
        async with signed_in(origin, own) as http:
            page = (await http.get("/?days=7")).text
            assert "Fewer" not in page
            assert "Alerts" not in page


async def test_whatever_proves_no_identity_is_refused_alike(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with serve(guarded) as origin, client(origin) as http:
        nothing = (await http.get("/api/stats")).text
        for attack, _ in ATTACKS.values():
            token = attack(issuer)
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"Cookie": f"session-analytics={token}"},
            ):
                for path in FIGURES:
                    response = await http.get(path, headers=headers)
                    assert response.status_code == 401
                    assert response.headers["www-authenticate"] == "Bearer"
                    assert response.text == nothing
                assert (await http.get("/", headers=headers)).status_code == 401
            refused = await http.post("/login", data={"token": token}, headers={"Origin": origin})
            assert refused.status_code == 401
            assert "set-cookie" not in refused.headers
            assert token == "" or token not in refused.text


async def test_a_token_in_an_address_is_none(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    token = issuer.token("analyst_001", PLATFORM_SCOPE)
    async with serve(guarded) as origin, client(origin) as http:
        for name in ("token", "access_token", "authorization"):
            for path in (*FIGURES, "/"):
                assert (await http.get(path, params={name: token})).status_code == 401
        headers = {"Authorization": f"Basic {token}"}
        assert (await http.get("/api/stats", headers=headers)).status_code == 401


async def test_the_cookie_is_no_identity_for_mcp(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with (
        serve(guarded) as origin,
        signed_in(origin, issuer.token("analyst_001")) as http,
    ):
        assert (await http.get("/api/stats")).status_code == 200
        response = await http.post("/mcp", json={}, headers={"Origin": origin})
        assert response.status_code == 401


async def test_signing_in_leads_to_the_view_that_was_asked_for_and_out_again(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with serve(guarded) as origin, client(origin) as http:
        asked = await http.get("/?days=7&type=crypto")
        assert asked.status_code == 401
        assert 'name="query" value="days=7&amp;type=crypto"' in asked.text
        response = await http.post(
            "/login",
            data={"token": issuer.token(), "query": "days=7&type=crypto"},
            headers={"Origin": origin},
        )
        assert response.status_code == 303
        assert response.headers["location"] == "/?days=7&type=crypto"
        cookie = response.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert word in cookie
        assert (await http.get("/")).status_code == 200
        left = await http.post("/logout", headers={"Origin": origin})
        assert left.headers["location"] == "/login"
        assert (await http.get("/")).status_code == 401


async def test_away_from_loopback_the_cookie_is_for_tls_alone(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    headers = {"Host": "analytics.example", "Origin": "https://analytics.example"}
    async with serve(guarded) as origin, client(origin) as http:
        response = await http.post("/login", data={"token": issuer.token()}, headers=headers)
    assert response.status_code == 303
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-session-analytics=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


async def test_a_token_too_long_for_a_cookie_is_told_and_not_dropped(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with serve(guarded) as origin, client(origin) as http:
        token = issuer.token(more="x" * 5000)
        response = await http.post("/login", data={"token": token}, headers={"Origin": origin})
        assert response.status_code == 400
        assert "A browser keeps tokens of up to 4000 characters" in response.text
        assert "set-cookie" not in response.headers


async def test_nothing_that_another_site_sends_is_taken(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    async with serve(guarded) as origin, signed_in(origin, issuer.token()) as http:
        cookie = f"session-analytics={http.cookies['session-analytics']}"
        for other in (
            "https://evil.example",
            "null",
            origin + ".evil.example",
            "http://127.0.0.1:1",
        ):
            for path in ("/login", "/logout"):
                response = await http.post(
                    path, data={"token": issuer.token("analyst_002")}, headers={"Origin": other}
                )
                assert response.status_code == 403
                assert "set-cookie" not in response.headers
            for path in ("/live", "/api/live"):
                with pytest.raises(InvalidStatus) as refused:
                    async with connect(
                        origin_of(origin) + path,
                        additional_headers={"Cookie": cookie},
                        origin=other,
                        proxy=None,
                    ):
                        pass
                assert refused.value.response.status_code == 403
        # A cookie without the name of a page that it came with proves no page of ours.
        with pytest.raises(InvalidStatus):
            async with connect(
                origin_of(origin) + "/live", additional_headers={"Cookie": cookie}, proxy=None
            ):
                pass


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "guarded"])
async def test_a_request_under_another_name_is_turned_away(
    settings: Settings, guarded: Settings, serve: Serve, issuer: Issuer, *, is_open: bool
) -> None:
    async with serve(settings if is_open else guarded) as origin:
        token = None if is_open else issuer.token()
        async with client(origin, token) as http:
            for host in (
                "evil.example",
                "evil.example:80",
                "127.0.0.1.evil.example:80",
                "127.0.0.1:x",
                b"127.0.0.1:\xb2",
            ):
                for path in ("/", "/api", "/login", *FIGURES, "/api/openapi.json"):
                    response = await http.get(path, headers={"Host": host})
                    assert response.status_code == 421
            # Probes ask by address; what they get tells nothing.
            assert (await http.get("/healthz", headers={"Host": "10.0.0.1:1"})).status_code == 200
            for host in ("localhost", "localhost:8766", "127.0.0.1:1", "[::1]:8766"):
                assert (await http.get("/api/stats", headers={"Host": host})).status_code == 200


async def test_a_form_with_too_many_fields_is_none(guarded: Settings, serve: Serve) -> None:
    async with serve(guarded) as origin, client(origin) as http:
        response = await http.post(
            "/login", content="&".join(["token=x"] * 11), headers={"Origin": origin}
        )
        assert response.status_code == 401
        assert response.headers["x-frame-options"] == "DENY"


async def test_every_answer_keeps_the_page_to_itself(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, client(origin) as http:
        page = await http.get("/")
        asset = next(word for word in page.text.split('"') if word.endswith("page.js"))
        for path in ("/", "/api", "/api/stats", "/api/stats?days=x", "/healthz", asset, "/nothing"):
            headers = (await http.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == (
                "public, max-age=31536000, immutable" if path == asset else "no-store"
            )
        for forbidden in ("style=", "<script>", "onclick", "<style"):
            assert forbidden not in page.text


async def test_the_rate_is_each_identitys_own(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    few = replace(guarded, calls_burst=3, calls_per_minute=1)
    async with serve(few) as origin, client(origin, issuer.token("analyst_001")) as http:
        statuses = [(await http.get(path)).status_code for path in ("/", *FIGURES)]
        assert statuses == [200, 200, 200]
        for path in FIGURES:
            response = await http.get(path)
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["code"] == "limited"
        assert (await http.get("/")).status_code == 429
        async with live(origin, "/live", issuer.token("analyst_001")) as socket:
            await socket.send("{}")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4429
        async with client(origin, issuer.token("analyst_002")) as other:
            assert (await other.get("/api/stats")).status_code == 200


async def test_pages_that_are_kept_up_to_date_are_limited_for_each_identity(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    token = issuer.token("analyst_001")
    async with serve(guarded) as origin:
        sockets = [await live(origin, "/api/live", token) for _ in range(21)]
        try:
            # Those that have said nothing yet count as well.
            with pytest.raises(ConnectionClosed) as closed:
                await sockets[20].recv()
            for socket in sockets[:20]:
                await socket.send("{}")
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4429
            async with live(origin, "/api/live", issuer.token("analyst_002")) as other:
                await other.send("{}")
                assert json.loads(await other.recv())["stats"]["user_id"] == "analyst_002"
        finally:
            for socket in sockets:
                await socket.close()


async def test_a_live_connection_ends_with_its_token(
    guarded: Settings, serve: Serve, issuer: Issuer
) -> None:
    assert guarded.auth_jwks_file is not None
    async with (
        serve(guarded) as origin,
        live(origin, "/api/live", issuer.token("analyst_001")) as socket,
    ):
        await socket.send("{}")
        await socket.recv()
        # The key is withdrawn.
        other = Issuer().jwks()
        replaced = guarded.auth_jwks_file.with_suffix(".new")
        replaced.write_text(json.dumps(other))
        replaced.chmod(0o644)
        replaced.replace(guarded.auth_jwks_file)
        add_session(guarded.conninfo)
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(30):
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


@pytest.fixture
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("fiml", "fiml.audit", "starlette", "asyncio"):
            stack.enter_context(caplog.at_level(logging.DEBUG, name))
        # At DEBUG it shows what goes through a WebSocket; the command sets it to WARNING.
        stack.enter_context(caplog.at_level(logging.INFO, "uvicorn.error"))
        yield


@pytest.mark.usefixtures("_everything_is_logged")
async def test_no_log_names_a_user_or_repeats_a_token(
    guarded: Settings, serve: Serve, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token("analyst_001", USERS_SCOPE)
    expired = issuer.token("analyst_001", exp=1)
    async with serve(guarded) as origin:
        async with signed_in(origin, token) as http:
            for params in ({}, {"user": "analyst_002"}, {"user": "analyst_002\0"}, {"x": token}):
                for path in ("/", *FIGURES):
                    await http.get(path, params=params)
        async with client(origin) as http:
            await http.post("/login", data={"token": expired}, headers={"Origin": origin})
        for path in ("/live", "/api/live"):
            async with live(origin, path, token) as socket:
                await socket.send(json.dumps({"query": "user=analyst_002"}))
                await socket.recv()
        # It waits for views under way, which go on in this loop.
        async with await psycopg.AsyncConnection.connect(
            guarded.conninfo, autocommit=True
        ) as connection:
            await connection.execute("drop table session_metrics cascade")
        async with client(origin, token) as http:
            assert (await http.get("/", params={"user": "analyst_002"})).status_code == 503
    audited = [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "fiml.audit"
    ]
    assert {line["outcome"] for line in audited} == {
        "answered",
        "invalid",
        "unauthenticated",
        "failed",
    }
    assert {line["operation"] for line in audited if "operation" in line} == {
        "/",
        "/api/stats",
        "/api/timeseries",
        "/live",
        "/api/live",
    }
    everything = "\n".join(
        f"{record.name} {record.getMessage()} {record.exc_text}" for record in caplog.records
    )
    assert "analyst_" not in everything
    for part in (*token.split("."), *expired.split(".")):
        assert part[:20] not in everything
