"""The window before: compared with where it is a whole one, and not where history begins in it."""

import psycopg
import pytest
from web.conftest import ONE_MORE, Serve, client

from fiml.settings import Settings

pytestmark = pytest.mark.anyio

NOT_COMPARED = "There were no sessions yet when the window before began"


@pytest.mark.parametrize(
    ("query", "is_compared"),
    [
        # Sessions began ninety days ago.
        ("days=30", True),
        ("days=60", False),
        ("days=30&user=analyst_001", True),
        ("days=60&user=analyst_001", False),
        ("days=30&user=newcomer", False),
        ("hours=1&user=newcomer", False),
        ("days=30&type=crypto", True),
        ("days=60&type=crypto", False),
    ],
)
async def test_nothing_is_compared_with_a_window_in_which_history_begins(
    settings: Settings, serve: Serve, query: str, *, is_compared: bool
) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        connection.execute(ONE_MORE, ["newcomer"])
    async with serve(settings) as origin, client(origin) as http:
        text = (await http.get(f"/?{query}")).text
    assert (NOT_COMPARED in text) != is_compared
    assert ("in the window before</span>" in text) == is_compared
    assert ("chart-ghost" in text) == is_compared


async def test_that_the_latest_periods_grow_is_told_while_sessions_run(
    settings: Settings, serve: Serve
) -> None:
    told = "Sessions that have not ended are not counted yet"
    async with serve(settings) as origin, client(origin) as http:
        assert told in (await http.get("/")).text
        with psycopg.connect(settings.conninfo, autocommit=True) as connection:
            connection.execute("update sessions set is_archived = true")
        assert told not in (await http.get("/")).text
