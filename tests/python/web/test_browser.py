"""The page in a real browser: what it fetches, shows, and does with a keyboard and without.

Screenshots are left in the folder of SESSION_ANALYTICS_SCREENSHOTS, where that is set.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import pytest
from identity.issuer import Issuer
from web.chromium import Tab, browsing, find_chromium
from web.conftest import Serve, add_session, client, shown

from fiml.identity.authorization import PLATFORM_SCOPE
from fiml.settings import Settings
from fiml.web.figures import FIGURES

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine"),
]

PROMISED_SECONDS = 2.0
IS_LIVE = "document.querySelector('#live.on')"
TOTAL = "Number(document.querySelector('[data-key=total_sessions] data').value)"


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browsing(tmp_path / "browser") as tab:
        yield tab


async def keep(tab: Tab, name: str, *, whole: bool = True) -> None:
    picture = await tab.screenshot(whole=whole)
    assert picture.startswith(b"\x89PNG")
    folder = os.environ.get("SESSION_ANALYTICS_SCREENSHOTS")
    if folder:
        await asyncio.to_thread((Path(folder) / f"{name}.png").write_bytes, picture)


def hosts_of(tab: Tab) -> set[str]:
    # The browser's own pictures, such as that of a date field, are data.
    urls = [url for url in tab.requests if not url.startswith("data:")]
    return {re.sub(r"^\w+://([^/]*).*", r"\1", url) for url in urls}


async def test_it_loads_from_this_server_alone_and_complains_of_nothing(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin:
        await tab.goto(f"{origin}/?days=30")
        await tab.until(IS_LIVE)
        await keep(tab, "light")
        await tab.goto(f"{origin}/api")
        await tab.goto(f"{origin}/?user=nobody")
        await tab.until(IS_LIVE)
        await keep(tab, "empty")
        assert hosts_of(tab) == {origin.removeprefix("http://")}
        assert tab.complaints == []


async def test_a_new_session_shows_within_two_seconds_without_a_reload(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin:
        await tab.goto(f"{origin}/?days=7")
        await tab.until(IS_LIVE)
        await tab.value("window.isTheSamePage = true")
        before = await tab.value(TOTAL)
        line = "document.querySelector('.chart.wide .chart-line:last-of-type').getAttribute('d')"
        drawn = await tab.value(line)
        took = []
        for number in range(1, 6):
            await asyncio.sleep(number * 0.17)
            began = monotonic()
            add_session(settings.conninfo)
            await tab.until(f"{TOTAL} === {before + number}")
            took.append(monotonic() - began)
        assert max(took) < PROMISED_SECONDS, took
        assert await tab.value("window.isTheSamePage") is True
        assert await tab.value(line) != drawn
        assert "NEWCOMER" in await tab.value("document.getElementById('assets').innerText")
        assert tab.complaints == []


async def test_the_tables_beside_the_charts_are_the_figures_of_the_api(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    query = "days=20&timezone=Europe/Athens"
    async with serve(settings) as origin, client(origin) as http:
        for figure in FIGURES:
            await tab.goto(f"{origin}/?{query}&figure={figure.key}")
            await tab.until(IS_LIVE)
            found = json.loads(
                await tab.value(
                    """JSON.stringify({
                        asOf: document.getElementById("view").dataset.asOf,
                        tiles: [...document.querySelectorAll(".tile")].map(
                            (tile) => [tile.dataset.key, tile.querySelector("data").value]),
                        periods: [...document.querySelectorAll("#chart .twin tbody tr")].map(
                            (row) => [row.querySelector("time").dateTime,
                                row.querySelector("td data").value,
                                row.querySelectorAll("td data")[1]?.value]),
                        lists: [...document.querySelectorAll(".list")].map(
                            (list) => [...list.querySelectorAll("tbody tr")].map(
                                (row) => [row.querySelector("th").innerText.trim(),
                                    Number(row.querySelector("data").value)])),
                    })"""
                )
            )
            stats = shown(await http.get("/api/stats?days=20"))
            for key, value in found["tiles"]:
                assert float(value) == stats[key]
            series = shown(
                await http.get(
                    "/api/timeseries",
                    params={"days": "20", "until": found["asOf"], "timezone": "Europe/Athens"},
                )
            )
            begin = series["since"]
            earlier = shown(
                await http.get(
                    "/api/timeseries",
                    params={"days": "20", "until": begin, "timezone": "Europe/Athens"},
                )
            )
            assert [[start, float(now)] for start, now, _ in found["periods"]] == [
                [period["period_start"], period[figure.key]] for period in series["periods"]
            ]
            before = [float(value) for _, _, value in found["periods"] if value is not None]
            assert before == [period[figure.key] for period in earlier["periods"]][-len(before) :]
            assert found["lists"] == [
                [[row["symbol"], row["count"]] for row in stats["top_assets"]],
                [[row["tag"], row["count"]] for row in stats["popular_tags"]],
                [list(pair) for pair in stats["query_type_distribution"].items()],
                [list(pair) for pair in stats["session_type_breakdown"].items()],
            ]


async def focus(tab: Tab, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if await tab.value(f"document.activeElement.matches({json.dumps(selector)})"):
            return
        await tab.press("Tab")
    raise AssertionError(f"no Tab leads to {selector}")


async def test_everything_is_done_with_the_keyboard_alone(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin:
        await tab.goto(origin)
        await tab.until(IS_LIVE)
        await tab.value("window.isTheSamePage = true")

        await focus(tab, "input[name=user]")
        await tab.type("analyst_001")
        await tab.press("Enter")
        await tab.until("location.search === '?user=analyst_001'")
        await tab.until("document.querySelector('.whose').innerText === 'User analyst_001'")
        await tab.until(IS_LIVE)

        await focus(tab, ".windows a[href*='days=7']")
        assert await tab.value(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        ), "the focus is not visible"
        await tab.press("Enter")
        await tab.until("location.search === '?user=analyst_001&days=7'")
        await tab.until("document.querySelector('.windows [aria-current]').innerText === '7 days'")

        await focus(tab, "[data-key=total_queries] a")
        await tab.press("Enter")
        await tab.until("document.querySelector('.chart-title').innerText.startsWith('Queries')")
        # What was pressed keeps the focus.
        assert await tab.value("document.activeElement.matches('[data-key=total_queries] a')")

        await focus(tab, ".plot")
        await tab.press("ArrowLeft")
        await tab.until("!document.getElementById('tip').hidden")
        told = await tab.value("document.getElementById('told').textContent")
        last = await tab.value(
            "document.querySelector('#chart .twin tbody tr:last-child td').innerText"
        )
        assert last in told
        await tab.press("Home")
        first = await tab.value("document.querySelector('#chart .twin tbody tr th').innerText")
        assert " ".join(first.split()) in await tab.value(
            "document.getElementById('tip').innerText"
        )
        await keep(tab, "keyboard", whole=False)
        await tab.press("Escape")
        await tab.until("document.getElementById('tip').hidden")

        await focus(tab, "#chart .twin summary")
        await tab.press("Enter")
        await tab.until("document.querySelector('#chart .twin').open")
        # A change of the figures closes nothing.
        before = await tab.value(TOTAL)
        add_session(settings.conninfo)
        await tab.until(f"{TOTAL} === {before + 1}")
        assert await tab.value("document.querySelector('#chart .twin').open")
        assert await tab.value("document.activeElement.matches('#chart .twin summary')")

        await focus(tab, "#session-types a")
        name = await tab.value("document.activeElement.innerText")
        await tab.press("Enter")
        await tab.until(f"location.search.includes('type={name}')")
        await tab.until("document.querySelectorAll('#session-types tbody tr').length === 1")
        assert await tab.value("window.isTheSamePage") is True

        await tab.value("history.back()")
        await tab.until("document.querySelectorAll('#session-types tbody tr').length > 1")
        assert tab.complaints == []


async def test_a_name_and_other_periods_are_chosen_with_the_keyboard_and_kept_up_to_date(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    counted = (
        "[...document.querySelectorAll('#chart tbody tr')]"
        ".reduce((sum, row) => sum + Number(row.querySelector('data').value), 0)"
    )
    async with serve(settings) as origin:
        await tab.goto(f"{origin}/?days=40")
        await tab.until(IS_LIVE)
        await tab.value("window.isTheSamePage = true")

        await focus(tab, ".grains a[href*='grain=week']")
        await tab.press("Enter")
        await tab.until("location.search === '?days=40&grain=week'")
        await tab.until("document.querySelector('.grains [aria-current]').innerText === 'Week'")
        assert await tab.value("document.activeElement.innerText") == "Week"

        await focus(tab, "#tags a[href$='tag:tech']")
        await tab.press("Enter")
        await tab.until("document.querySelector('.chart-title').innerText.startsWith('Tag tech')")
        assert await tab.value("location.search") == "?days=40&grain=week&figure=tag:tech"
        assert await tab.value("document.activeElement.matches('#tags a[aria-current]')")
        assert await tab.value("document.querySelector('.tile [aria-current]')") is None
        await tab.until(IS_LIVE)
        before = await tab.value(counted)
        add_session(settings.conninfo)
        await tab.until(f"{counted} === {before + 1}")
        await focus(tab, ".plot")
        await tab.press("ArrowLeft")
        assert await tab.value(
            "document.getElementById('told').textContent.includes("
            "document.querySelector('#chart tbody tr:last-child data').innerText)"
        )

        # A form keeps it.
        await focus(tab, "input[name=user]")
        await tab.type("analyst_001")
        await tab.press("Enter")
        await tab.until("document.querySelector('.whose').innerText === 'User analyst_001'")
        assert "figure=tag%3Atech" in await tab.value("location.search")
        await focus(tab, "#tags a[aria-current]")
        await tab.press("Enter")
        await tab.until("document.querySelector('.chart-title').innerText.startsWith('Sessions')")
        assert "figure" not in await tab.value("location.search")

        name = '<b>&"x'
        await tab.value(
            f"[...document.querySelectorAll('#assets a')]"
            f".find((link) => link.innerText === {json.dumps(name)}).click()"
        )
        await tab.until("document.querySelector('.chart-title').innerText.startsWith('Asset')")
        assert await tab.value("document.querySelector('.chart-title bdi').innerText") == name
        assert await tab.value("document.querySelector('#chart b')") is None
        assert await tab.value("window.isTheSamePage") is True
        assert tab.complaints == []


async def test_a_custom_window_holds_its_last_day_in_the_time_zone_of_the_browser(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        await tab.goto(origin)
        await tab.until("document.getElementById('view').dataset.zone === 'Europe/Athens'")
        await focus(tab, ".custom summary")
        await tab.press("Enter")
        await tab.value(
            """(() => { const day = (back) => new Date(Date.now() - back * 864e5)
                .toISOString().slice(0, 10);
            document.querySelector("[name=since]").value = day(12);
            document.querySelector("[name=through]").value = day(5);
            document.querySelector(".custom button").click(); })()"""
        )
        await tab.until("location.search.includes('through=')")
        await tab.until("document.querySelectorAll('#chart .twin tbody tr').length === 8")
        query = await tab.value("location.search")
        since, through = re.findall(r"\d{4}-\d{2}-\d{2}", query)
        shown_total = await tab.value(TOTAL)
        days = [period["period_start"][:10] for period in (await series(http, since, through))]
        assert (days[0], days[-1]) == (since, through)
        assert shown_total == sum(
            period["total_sessions"] for period in await series(http, since, through)
        )
        # The view is in the address: whoever opens it sees the same.
        await tab.goto(origin + "/" + query)
        assert await tab.value(TOTAL) == shown_total
        assert await tab.value("document.querySelector('[data-key=active_sessions]')") is None


async def series(http: httpx2.AsyncClient, since: str, through: str) -> list[dict[str, Any]]:
    until = (date.fromisoformat(through) + timedelta(days=1)).isoformat()
    answer = await http.get(
        "/api/timeseries",
        params={"since": since, "until": until, "timezone": "Europe/Athens"},
    )
    periods: list[dict[str, Any]] = shown(answer)["periods"]
    return periods


async def test_it_fits_every_width_in_dark_and_in_light(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    async with serve(settings) as origin:
        await tab.goto(origin)
        await tab.until(IS_LIVE)
        backgrounds = set()
        for scheme in ("light", "dark"):
            await tab.scheme(scheme)
            backgrounds.add(await tab.value(background))
            for width in (320, 390, 700, 1000, 1600):
                await tab.window(width, 844)
                widths = await tab.value("[document.documentElement.scrollWidth, innerWidth]")
                assert widths == [width, width]
                drawings = await tab.value(
                    "[...document.querySelectorAll('.plot svg')]"
                    ".filter((svg) => svg.getClientRects().length).length"
                )
                assert drawings == 1
                # Nobody has to aim well.
                assert await tab.value(
                    "[...document.querySelectorAll('.tile a')]"
                    ".every((link) => link.getBoundingClientRect().height >= 44)"
                )
            await tab.window(390, 844)
            await keep(tab, f"phone-{scheme}")
            await tab.window(1280, 900)
            await keep(tab, f"desktop-{scheme}")
        assert len(backgrounds) == 2


async def test_text_is_legible_in_dark_and_in_light(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin:
        await tab.goto(origin)
        await tab.until(IS_LIVE)
        for scheme in ("light", "dark"):
            await tab.scheme(scheme)
            contrasts = await tab.value(_CONTRASTS)
            assert contrasts
            assert min(contrasts.values()) >= 4.5, contrasts


# WCAG 2: the ratio of each text's colour to that of what it stands on.
_CONTRASTS = """(() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if ((parts(colour)[3] ?? 1) === 1) return colour;
        }
    };
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const found = {};
    const look = (selector, on) => {
        const node = document.querySelector(selector);
        if (node) found[selector] = ratio(
            light(getComputedStyle(node)[on ? "fill" : "color"]), light(behind(node)));
    };
    ["h1", ".whose", ".windows a", ".windows [aria-current]", ".label", ".figure", ".change",
     ".change.better", ".change.worse", ".legend", "#freshness", ".list th a", ".list .quiet",
     "#state p", "footer a", ".grains a", ".grains [aria-current]", ".list [aria-current]"]
        .forEach((selector) => look(selector, false));
    look(".chart-labels", true);
    return found;
})()"""


async def test_it_goes_on_after_the_server_was_away(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    async with serve(settings) as origin:
        await tab.goto(origin)
        await tab.until(IS_LIVE)
        await tab.value("window.isTheSamePage = true")
        before = await tab.value(TOTAL)
    await tab.until("document.querySelector('#live.off')")
    assert "not live" in await tab.value("document.getElementById('live').innerText")
    assert await tab.value(TOTAL) == before
    add_session(settings.conninfo)
    async with serve(settings, port=int(origin.rpartition(":")[2])):
        await tab.until(f"{IS_LIVE} && {TOTAL} === {before + 1}")
        assert await tab.value("window.isTheSamePage") is True


async def test_a_page_that_found_no_database_shows_it_when_it_is_there(
    settings: Settings, serve: Serve, tab: Tab
) -> None:
    gone = replace(settings, conninfo="postgresql://x:y@127.0.0.1:1/no", timeout_seconds=2)
    async with serve(gone) as origin:
        await tab.goto(origin)
        told = await tab.value("document.querySelector('[role=alert]').innerText")
        assert told.startswith("The session database cannot be reached.")
    async with serve(settings, port=int(origin.rpartition(":")[2])):
        await tab.until(IS_LIVE)


async def test_a_person_signs_in_with_a_token_that_no_script_and_no_address_holds(
    guarded: Settings, serve: Serve, issuer: Issuer, tab: Tab
) -> None:
    token = issuer.token("analyst_001")
    async with serve(guarded) as origin:
        await tab.goto(f"{origin}/?days=7")
        # The browser gives the focus with the first picture, which may come after the page.
        await tab.until("document.activeElement.id === 'token'")
        await keep(tab, "login")
        await tab.type("nonsense")
        await tab.value("document.querySelector('button').click()")
        await tab.until(
            "document.querySelector('[role=alert]') && document.activeElement.id === 'token'"
        )
        await tab.type(token)
        await tab.press("Tab")
        await tab.press("Enter")
        await tab.until(IS_LIVE)
        assert await tab.value("location.search") == "?days=7"
        assert await tab.value("document.querySelector('.whose').innerText") == "Your own sessions"
        # Another user is not to be asked for, so there is no field for one.
        assert await tab.value("document.querySelector('input[name=user]')") is None
        assert token[:20] not in await tab.value("document.cookie + document.body.outerHTML")
        assert not any(token[:20] in url for url in tab.requests)
        await tab.value("document.querySelector('.logout button').click()")
        await tab.until("document.getElementById('token')")
        await tab.goto(f"{origin}/?days=7")
        assert await tab.value("document.getElementById('view')") is None


async def test_what_may_not_be_seen_is_told_in_the_page(
    guarded: Settings, serve: Serve, issuer: Issuer, tab: Tab
) -> None:
    limited = replace(guarded, calls_burst=1000)
    async with serve(limited) as origin:
        await tab.send(
            "Network.setCookie",
            name="session-analytics",
            value=issuer.token("analyst_001", PLATFORM_SCOPE),
            url=origin,
        )
        await tab.goto(origin)
        await tab.until(IS_LIVE)
        assert await tab.value("document.querySelector('.whose').innerText") == "Everybody"
        await tab.goto(f"{origin}/?user=analyst_002")
        told = await tab.value("document.querySelector('[role=alert]').innerText")
        assert told.startswith("Figures of other users need the scope analytics:users.")
        await tab.value("document.querySelector('[role=alert] a').click()")
        await tab.until(IS_LIVE)


async def test_names_from_outside_stay_text(settings: Settings, serve: Serve, tab: Tab) -> None:
    async with serve(settings) as origin:
        await tab.goto(f"{origin}/?days=40")
        await tab.until(IS_LIVE)
        assert '<b>&"x' in await tab.value("document.getElementById('assets').innerText")
        assert await tab.value("document.querySelector('#assets b')") is None
        assert "Ελλάδα" in await tab.value("document.getElementById('tags').innerText")


async def test_it_works_without_its_script(settings: Settings, serve: Serve, tab: Tab) -> None:
    async with serve(settings) as origin:
        await tab.send("Emulation.setScriptExecutionDisabled", value=True)
        await tab.goto(f"{origin}/?days=7")
        picture = await tab.screenshot()
        await tab.goto(f"{origin}/?days=7&figure=total_queries")
        assert await tab.screenshot() != picture
        await tab.send("Emulation.setScriptExecutionDisabled", value=False)
        assert await tab.value("document.querySelector('.chart-title').innerText") != ""
