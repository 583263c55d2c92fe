"""The figures as JSON are the library's, to the digit, and a failure is never a figure."""

import html
import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import psycopg
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from web.conftest import Serve, client, shown

from fiml.database import Database
from fiml.mcp.server import TOOL_NAME
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings
from fiml.web.arguments import SERIES_PARAMETERS, STATS_PARAMETERS

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"
# Windows that are over, so that the answer of a moment later is the same one.
WINDOWS: list[dict[str, Any]] = [
    {"days": 30},
    {"days": 1},
    {"hours": 5},
    {"since": "2026-03-01", "until": "2026-06-01"},
    {"days": 7, "user": "analyst_001"},
    {"days": 7, "user": "nobody"},
    {"days": 30, "type": "crypto"},
    {"hours": 100, "type": "macro", "user": "analyst_002"},
]
SERIES: list[dict[str, Any]] = [
    *WINDOWS,
    {"days": 20, "grain": "week", "timezone": "Europe/Athens"},
    {"days": 40, "grain": "month", "timezone": "America/New_York", "fill": False},
    {"hours": 30, "grain": "hour", "fill": True},
]
NAMES = {"user": "user_id", "type": "session_type"}
WRONG = ("/api/stats?days=0", "/api/timeseries?grain=year", "/api/nothing")


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {NAMES.get(name, name): value for name, value in given.items()}


def query(given: dict[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in given.items()
    }


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the instants that follow the clock: each call has its own."""
    kept = {
        name: value for name, value in answer.items() if name not in {"since", "until", "as_of"}
    }
    if "periods" in kept:
        kept["periods"] = [
            {name: value for name, value in period.items() if not name.startswith("period_")}
            for period in kept["periods"]
        ]
    return kept


async def test_stats_are_those_of_the_library(settings: Settings, serve: Serve) -> None:
    async with Database(settings) as database, serve(settings) as origin, client(origin) as http:
        analytics = SessionAnalytics(database)
        for given in WINDOWS:
            expected = await analytics.get_session_stats(**arguments(given))
            response = await http.get("/api/stats", params=query(given))
            assert timeless(shown(response)) == timeless(expected)
            if "since" not in expected:
                # To the byte.
                assert response.text == json.dumps(expected, ensure_ascii=False)


async def test_time_series_are_those_of_the_library(settings: Settings, serve: Serve) -> None:
    async with Database(settings) as database, serve(settings) as origin, client(origin) as http:
        analytics = SessionAnalytics(database)
        for given in SERIES:
            expected = await analytics.get_session_timeseries(**arguments(given))
            answer = shown(await http.get("/api/timeseries", params=query(given)))
            assert timeless(answer) == timeless(expected)
            assert list(answer) == list(expected)


async def test_the_mounted_tool_gives_the_same(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, client(origin) as http:
        stats = shown(await http.get("/api/stats?days=7"))
        async with Client(streamable_http_client(f"{origin}/mcp", http_client=http)) as tool:
            result = await tool.call_tool(TOOL_NAME, {"days": 7})
    assert result.structured_content == stats
    assert stats["total_sessions"] > 0


async def test_a_user_id_is_never_repeated(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, client(origin) as http:
        response = await http.get("/api/stats", params={"user": "analyst_\0" + "x" * 300})
    assert response.status_code == 400
    assert "analyst" not in response.text


async def test_without_a_database_it_is_unavailable_and_never_zero(
    settings: Settings, serve: Serve
) -> None:
    gone = replace(settings, conninfo=NOWHERE, timeout_seconds=2)
    async with serve(gone) as origin, client(origin) as http:
        for path in ("/api/stats", "/api/timeseries"):
            response = await http.get(path)
            assert response.status_code == 503
            error = response.json()["error"]
            assert error["code"] == "unavailable"
            assert error["message"].startswith("The session database cannot be reached. No figure")
        page = await http.get("/")
        assert page.status_code == 503
        assert "The session database cannot be reached. No figure" in page.text
        assert (await http.get("/healthz")).json() == {"status": "alive"}
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "reason": "The database does not answer."}
        assert "secret" not in page.text + ready.text


async def test_it_is_ready_when_the_database_is_at_its_version(
    settings: Settings, serve: Serve, empty_database: str
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        assert shown(await http.get("/readyz")) == {"status": "ready"}
    async with serve(replace(settings, conninfo=empty_database)) as origin, client(origin) as http:
        response = await http.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reason"] == "The database is not at the version of this package."


async def test_a_database_that_was_migrated_beyond_it_makes_it_not_ready(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        await http.get("/api/stats")
        with psycopg.connect(settings.conninfo, autocommit=True) as connection:
            connection.execute(
                "insert into analytics.migrations (version, name, checksum) values (999, 'x', 'x')"
            )
        assert (await http.get("/readyz")).status_code == 503


async def test_answers_are_as_the_description_says(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, client(origin) as http:
        document = shown(await http.get("/api/openapi.json"))
        schemas = document["components"]["schemas"]

        def check(answer: Any, schema: str) -> None:
            jsonschema.Draft202012Validator(schemas[schema]).validate(answer)

        for schema in schemas.values():
            jsonschema.Draft202012Validator.check_schema(schema)
        for given in SERIES:
            check(shown(await http.get("/api/timeseries", params=query(given))), "Timeseries")
        for given in WINDOWS:
            answer = shown(await http.get("/api/stats", params={**query(given), "meta": "true"}))
            check(answer, "Stats")
        assert (await http.post("/api/stats")).json()["error"]["code"] == "method_not_allowed"
        for address in WRONG:
            check((await http.get(address)).json(), "Error")
    assert document["openapi"].startswith("3.1")
    described = {
        path: tuple(parameter["name"] for parameter in item["get"]["parameters"])
        for path, item in document["paths"].items()
    }
    assert described == {"/api/stats": STATS_PARAMETERS, "/api/timeseries": SERIES_PARAMETERS}


async def test_the_readable_page_of_the_api_names_everything(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        page = (await http.get("/api")).text
    for name in (*STATS_PARAMETERS, *SERIES_PARAMETERS, "top_assets", "period_start", "/api/live"):
        assert name in page


async def test_what_is_not_there_is_not_found(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, client(origin) as http:
        for path in ("/api/nothing", "/nothing", "/static/x/page.js", "/static/x/../../pages.py"):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/api/stats")).status_code == 405
        # A GET would open a stream that nothing ever comes over.
        assert (await http.get("/mcp")).status_code == 405


@pytest.mark.parametrize(
    "address",
    [
        "/?since=2200-01-01",
        "/?since=2200-01-01&until=2200-02-01",
        "/?until=1980-01-01",
        "/?days=3650",
        "/?hours=1",
        "/?hours=1&grain=month",
        "/?days=1&timezone=Asia/Kathmandu",
        "/?user=&type=&days=",
        "/?since=2026-01-31&through=2026-01-31",
    ],
)
async def test_every_window_that_the_library_takes_has_a_page(
    settings: Settings, serve: Serve, address: str
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        response = await http.get(address)
    assert response.status_code == 200, response.text
    assert "as of <time" in response.text


async def test_a_time_zone_cookie_that_is_none_spoils_no_page(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        for zone, shown_zone in (("Mars/Olympus", "UTC"), ("Europe/Athens", "Europe/Athens")):
            page = await http.get("/", headers={"Cookie": f"timezone={zone}"})
            assert f'data-zone="{shown_zone}"' in page.text


@pytest.mark.parametrize(
    "query", ["", "days=7&type=equity", "hours=30&user=analyst_001", "since=2026-11-01&grain=week"]
)
async def test_the_page_leads_to_its_figures_as_json(
    settings: Settings, serve: Serve, query: str
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        page = (await http.get(f"/?{query}")).text
        address = re.search(r'href="(/api/stats[^"]*)"', page)
        assert address is not None
        figures = shown(await http.get(html.unescape(address[1])))
    total = re.search(r'data-key="total_sessions".*?value="(\d+)"', page, re.DOTALL)
    assert total is not None
    assert figures["total_sessions"] == int(total[1]) > 0
