"""The main chart by other periods, and of one name: each figure is that of a scan of the rows."""

import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import httpx2
import psycopg
import pytest
from hostile.strings import KINDS, hostile_strings, is_storable
from psycopg.types.json import Jsonb
from web.conftest import Serve, client

from fiml.sessions.lazy_reader import LazyReader
from fiml.sessions.periods import Grain, divide
from fiml.settings import Settings
from fiml.web.filters import Filters, fitting_grains
from fiml.web.service import Views

pytestmark = pytest.mark.anyio

WINDOWS: tuple[dict[str, int], ...] = (
    {"hours": 24},
    {"days": 7},
    {"days": 30},
    {"days": 90},
    {"days": 365},
)
COUNTED = {
    "asset": "select value from jsonb_array_elements_text(assets_analyzed) as value",
    "tag": "select value from jsonb_array_elements_text(tags) as value",
    "query_type": (
        "select key from jsonb_each_text(query_type_summary) as member (key, times) "
        "cross join generate_series(1, times::integer)"
    ),
}


class Page(HTMLParser):
    """What a browser would read of the main chart and the lists."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.as_of = ""
        self.name = ""
        self.periods: list[str] = []
        self.rows: list[list[int]] = []
        self.grains: dict[str, tuple[str, bool]] = {}
        self.lists: dict[str, dict[str, tuple[str, int]]] = {}
        self.kept: dict[str, str] = {}
        self._inside: list[tuple[str, dict[str, str | None]]] = []
        self._link: tuple[str, bool] | None = None
        self._listed = ("", "")
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("type") == "hidden":
            self.kept[str(given["name"])] = str(given["value"])
        if tag in {"input", "meta", "link", "br", "path", "rect", "circle"}:
            return
        self._inside.append((tag, given))
        if given.get("id") == "view":
            self.as_of = str(given["data-as-of"])
        if tag == "a":
            self._link = str(given["href"]), "aria-current" in given
        if self._is_within("chart", "tbody"):
            if tag == "time":
                self.periods.append(str(given["datetime"]))
                self.rows.append([])
            elif tag == "data":
                self.rows[-1].append(int(str(given["value"])))
        elif tag == "data" and self._is_within("lists", "tbody"):
            key, name = self._listed
            self.lists[key][name] = self.lists[key][name][0], int(str(given["value"]))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1][0] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        tag, _ = self._inside[-1] if self._inside else ("", {})
        if tag == "bdi":
            self.name = data
        elif tag == "a" and self._link and self._is_within("chart", "nav"):
            self.grains[data] = self._link
        elif tag == "a" and self._link and self._is_within("lists", "tbody"):
            key = next(str(given["id"]) for tag, given in self._inside if tag == "section")
            self.lists.setdefault(key, {})[data] = self._link[0], 0
            self._listed = key, data

    def _is_within(self, part: str, tag: str) -> bool:
        return any(given.get("id") == part for _, given in self._inside) and any(
            inside == tag for inside, _ in self._inside
        )


async def page_of(http: httpx2.AsyncClient, address: str = "/", **query: str) -> Page:
    response = await http.get(address, params=query or None)
    assert response.status_code == 200, response.text
    return Page(response.text)


def counted(
    conninfo: str, moments: list[datetime], kind: str, name: str, **filters: str
) -> list[int]:
    """How often a name is in the rows between each moment and the next."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return [
            row[0]
            for since, until in pairwise(moments)
            for row in connection.execute(
                f"""
                select count(*)
                from session_metrics
                cross join lateral ({COUNTED[kind]}) as counted (name)
                where
                    counted.name = %(name)s
                    and created_at >= %(since)s
                    and created_at < %(until)s
                    and (%(user)s::text is null or user_id = %(user)s)
                    and (%(type)s::text is null or session_type = %(type)s)
                """,
                {"user": None, "type": None, "name": name, "since": since, "until": until}
                | filters,
            )
        ]


@pytest.mark.parametrize(
    ("key", "name", "query"),
    [
        ("assets", "AAPL", {"days": "20"}),
        ("assets", '<b>&"x', {"days": "40", "grain": "week", "timezone": "Europe/Athens"}),
        ("tags", "Ελλάδα", {"days": "7", "user": "analyst_001"}),
        ("tags", "tech", {"days": "30", "type": "crypto"}),
        ("query-types", "price", {"hours": "40"}),
    ],
)
async def test_a_click_on_a_name_shows_how_often_it_counts_in_each_period(
    settings: Settings, serve: Serve, key: str, name: str, query: dict[str, str]
) -> None:
    kind = {"assets": "asset", "tags": "tag", "query-types": "query_type"}[key]
    async with serve(settings) as origin, client(origin) as http:
        address, _ = (await page_of(http, **query)).lists[key][name]
        page = await page_of(http, address)
        again, total = page.lists[key][name]
        assert dict(parse_qsl(urlsplit(again).query)) == query
    assert page.name == name
    until = datetime.fromisoformat(page.as_of)
    length = timedelta(**{unit: int(query[unit]) for unit in ("days", "hours") if unit in query})
    filters = {name: value for name, value in query.items() if name in {"user", "type"}}
    moments = [*map(datetime.fromisoformat, page.periods), until]
    now = [row[0] for row in page.rows]
    assert now == counted(settings.conninfo, moments, kind, name, **filters)
    assert sum(now) == total > 0
    # The window before has the same length; its line ends where this one ends.
    before = [row[1] for row in page.rows if len(row) > 1]
    earlier = divide(
        until - 2 * length,
        until - length,
        Grain(query.get("grain", "hour" if "hours" in query else "day")),
        ZoneInfo(query.get("timezone", "UTC")),
        until,
    )
    moments = [*(period.starts_at for period in earlier), until - length]
    assert len(before) in {len(now), len(earlier)}
    assert before == counted(settings.conninfo, moments, kind, name, **filters)[-len(before) :]


async def test_any_name_is_shown_as_it_is_and_counted_as_itself_alone(
    settings: Settings, serve: Serve
) -> None:
    names = [
        *(kind[0] for kind in KINDS.values()),
        *islice(filter(is_storable, hostile_strings(400)), 0, 400, 8),
        *("a\r\nb", "\n", "+", "%41", "a b ", "asset:x", "\u202egnp", "\U0001f4c8" * 255),
    ]
    names = [name for name in dict.fromkeys(names) if is_storable(name) and 1 <= len(name) <= 255]
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        for number, name in enumerate(names, 1):
            connection.execute(
                """
                insert into session_metrics (
                    session_id, session_type, created_at, duration_seconds, assets_analyzed
                )
                values (gen_random_uuid(), 'macro', now() - interval '1 hour', 1, %s)
                """,
                [Jsonb([name] * (1 + number % 3))],
            )
    async with serve(settings) as origin, client(origin) as http:
        for number, name in enumerate(names, 1):
            page = await page_of(http, type="macro", hours="3", figure=f"asset:{name}")
            assert page.name == name
            assert sum(row[0] for row in page.rows) == 1 + number % 3, name
            if not {"\r", "\n"} & set(name):
                assert page.kept["figure"] == f"asset:{name}"
            else:
                assert "figure" not in page.kept
        for name, (address, total) in page.lists["assets"].items():
            assert name in names
            linked = await page_of(http, address)
            assert (linked.name, sum(row[0] for row in linked.rows)) == (name, total)


async def test_names_of_periods_are_read_where_one_is_shown_and_only_there(
    settings: Settings,
) -> None:
    reader = LazyReader(settings)
    views = Views(reader)
    try:
        view = await views.read(Filters.of([("days", "3")]).subject)
        assert (view.counts, view.counts_before) == (None, None)
        assert not any("top_assets" in period for period in view.series["periods"])
        view = await views.read(Filters.of([("days", "3"), ("figure", "asset:x")]).subject)
        assert view.counts == [0] * len(view.series["periods"])
        assert view.counts_before == [0] * len(view.series_before["periods"])
    finally:
        await reader.close()


async def test_the_periods_that_fit_a_window_are_offered_and_shown(
    settings: Settings, serve: Serve
) -> None:
    offered = [
        [],
        ["Hour", "Day"],
        ["Day", "Week"],
        ["Day", "Week", "Month"],
        ["Day", "Week", "Month"],
    ]
    async with serve(settings) as origin, client(origin) as http:
        for window, names in zip(WINDOWS, offered, strict=True):
            page = await page_of(http, **{unit: str(length) for unit, length in window.items()})
            assert list(page.grains) == names
            for name, (address, _) in page.grains.items():
                shown = await page_of(http, address)
                assert [name for name, (_, is_it) in shown.grains.items() if is_it] == [name]
                starts = [datetime.fromisoformat(start) for start in shown.periods[1:]]
                lengths = {(b - a) // timedelta(hours=1) for a, b in pairwise(starts)}
                assert (
                    lengths
                    <= {
                        "Hour": {1},
                        "Day": {24},
                        "Week": {168},
                        "Month": {28 * 24, 29 * 24, 30 * 24, 31 * 24},
                    }[name]
                )
        # One that was asked for is told, whether it fits or not.
        page = await page_of(http, hours="24", grain="month")
        assert list(page.grains) == ["Hour", "Month"]


@pytest.mark.parametrize(
    ("window", "is_dated"), [("hours=24", False), ("hours=48", False), ("days=7&grain=hour", True)]
)
async def test_hours_of_several_days_say_which_day(
    settings: Settings, serve: Serve, window: str, *, is_dated: bool
) -> None:
    async with serve(settings) as origin, client(origin) as http:
        labels = re.findall(r">(\d+ \w{3} )?\d\d:00</text>", (await http.get(f"/?{window}")).text)
    assert labels
    assert {bool(date) for date in labels} == {is_dated}


def test_periods_are_kept_for_another_window_where_they_fit_it() -> None:
    for here in WINDOWS:
        for grain in fitting_grains(timedelta(**here)):
            given = {**{unit: str(length) for unit, length in here.items()}, "grain": str(grain)}
            filters = Filters.of(list(given.items()))
            for there in WINDOWS:
                address = filters.window_address(**there)
                found: dict[str, Any] = dict(parse_qsl(urlsplit(address).query))
                kept = found.pop("grain", None)
                assert found == {unit: str(length) for unit, length in there.items()}
                fits = grain in fitting_grains(timedelta(**there))
                assert kept == (str(grain) if fits else None)


@pytest.mark.parametrize(
    ("length", "grains"),
    [
        (timedelta(0), [Grain.HOUR]),
        (timedelta(hours=1), [Grain.HOUR]),
        (timedelta(days=2), [Grain.HOUR, Grain.DAY]),
        (timedelta(days=25), [Grain.HOUR, Grain.DAY, Grain.WEEK]),
        (timedelta(days=25, microseconds=1), [Grain.DAY, Grain.WEEK]),
        (timedelta(days=600), [Grain.DAY, Grain.WEEK, Grain.MONTH]),
        (timedelta(days=3650), [Grain.WEEK, Grain.MONTH]),
    ],
)
def test_fitting_periods_are_two_or_more_and_not_too_many(
    length: timedelta, grains: list[Grain]
) -> None:
    assert fitting_grains(length) == grains
