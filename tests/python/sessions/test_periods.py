"""Calendar periods, compared with the calendar that PostgreSQL keeps."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fiml.errors import InvalidArgumentError
from fiml.sessions.periods import MAX_PERIODS, Grain, Period, Window, divide

NEVER = datetime(2999, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ATHENS = ZoneInfo("Europe/Athens")


def between(since: str, until: str, grain: Grain, zone: str) -> list[Period]:
    ends = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (since, until))
    return divide(*ends, grain, ZoneInfo(zone), NEVER)


def lengths(periods: list[Period]) -> list[timedelta]:
    return [period.ends_at - period.starts_at for period in periods]


@pytest.mark.parametrize(
    ("since", "until", "zone", "hours"),
    [
        ("2026-03-27T22:00", "2026-03-30T21:00", "Europe/Athens", [24, 23, 24]),
        ("2026-10-23T21:00", "2026-10-26T22:00", "Europe/Athens", [24, 25, 24]),
        # Midnight itself is skipped.
        ("2018-11-03T03:00", "2018-11-06T02:00", "America/Sao_Paulo", [24, 23, 24]),
        # Half an hour.
        ("2026-10-02T13:30", "2026-10-05T13:00", "Australia/Lord_Howe", [24, 23.5, 24]),
    ],
)
def test_a_day_is_as_long_as_its_zone_has_it(
    since: str, until: str, zone: str, hours: list[float]
) -> None:
    periods = between(since, until, Grain.DAY, zone)
    assert lengths(periods) == [timedelta(hours=number) for number in hours]
    assert not any(period.is_partial for period in periods)


def test_a_date_that_a_zone_left_out_is_no_period() -> None:
    periods = between("2011-12-29T10:00", "2011-12-31T11:00", Grain.DAY, "Pacific/Apia")
    dates = [period.starts_at.astimezone(ZoneInfo("Pacific/Apia")).date() for period in periods]
    assert [str(date) for date in dates] == ["2011-12-29", "2011-12-31", "2012-01-01"]


@pytest.mark.parametrize(
    ("since", "until", "zone", "minutes"),
    [
        # Put forward: there is no hour between 3 and 4.
        ("2026-03-28T23:00", "2026-03-29T03:00", "Europe/Athens", [60] * 4),
        ("2026-10-24T23:00", "2026-10-25T03:00", "Europe/Athens", [60] * 4),
        # Put back by half an hour at 2: from 1:30 on it is one o'clock for a second time.
        ("2026-04-04T14:00", "2026-04-04T16:30", "Australia/Lord_Howe", [60, 30, 60]),
        ("2026-10-03T14:30", "2026-10-03T17:00", "Australia/Lord_Howe", [60, 30, 60]),
        # From the very moment on.
        ("2026-10-03T15:30", "2026-10-03T17:00", "Australia/Lord_Howe", [30, 60]),
        ("2026-04-04T15:00", "2026-04-04T16:30", "Australia/Lord_Howe", [30, 60]),
        ("2026-03-01T00:15", "2026-03-01T02:15", "Asia/Kathmandu", [60, 60]),
    ],
)
def test_an_hour_begins_where_a_clock_shows_it(
    since: str, until: str, zone: str, minutes: list[int]
) -> None:
    found = [
        length / timedelta(minutes=1) for length in lengths(between(since, until, Grain.HOUR, zone))
    ]
    assert found[: len(minutes)] == minutes
    starts = [period.starts_at for period in between(since, until, Grain.HOUR, zone)]
    shown = [(start.astimezone(ZoneInfo(zone)).hour, start) for start in starts]
    assert len({(hour, start) for hour, start in shown}) == len(starts)


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    weeks = between("2026-01-01T00:00", "2026-01-20T00:00", Grain.WEEK, "UTC")
    assert [period.starts_at.weekday() for period in weeks] == [3, 0, 0, 0]
    assert [period.is_partial for period in weeks] == [True, False, False, True]
    months = between("2024-01-31T05:00", "2024-04-01T00:00", Grain.MONTH, "UTC")
    assert [str(period.starts_at.date()) for period in months] == [
        "2024-01-31",
        "2024-02-01",
        "2024-03-01",
    ]
    assert [period.is_partial for period in months] == [True, False, False]


def test_what_ends_with_the_present_is_open() -> None:
    now = datetime(2026, 3, 29, 12, tzinfo=UTC)
    periods = divide(now - DAY, now, Grain.DAY, ATHENS, now)
    assert [period.is_open for period in periods] == [False, True]
    periods = divide(now - DAY, now - HOUR, Grain.DAY, ATHENS, now)
    assert [period.is_open for period in periods] == [False, False]
    assert divide(now, now, Grain.DAY, ATHENS, now) == []


def test_there_is_a_largest_number_of_periods() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(divide(since, since + MAX_PERIODS * HOUR, Grain.HOUR, ATHENS, NEVER)) == MAX_PERIODS
    with pytest.raises(InvalidArgumentError, match="more than 3700"):
        divide(since, since + (MAX_PERIODS + 1) * HOUR, Grain.HOUR, ATHENS, NEVER)


ZONES = [
    "UTC",
    "Europe/Athens",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Casablanca",
    "Pacific/Apia",
]


@pytest.fixture(scope="module")
def calendar(server: Any) -> Any:
    with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
        yield connection


def test_periods_begin_where_those_of_postgresql_do(calendar: psycopg.Connection[Any]) -> None:
    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(
        st.timedeltas(timedelta(0), 30 * 365 * DAY).map(
            lambda since: datetime(2005, 1, 1, tzinfo=UTC) + since
        ),
        st.sampled_from([grain for grain in Grain if grain is not Grain.HOUR]),
        st.sampled_from(ZONES),
        st.integers(1, 40),
    )
    @example(datetime(2026, 3, 29, 0, 59, tzinfo=UTC), Grain.DAY, "Europe/Athens", 3)
    def compared(since: datetime, grain: Grain, zone: str, days: int) -> None:
        until = since + days * DAY
        periods = divide(since, until, grain, ZoneInfo(zone), NEVER)
        assert periods[0].starts_at == since
        assert periods[-1].ends_at == until
        assert all(one.ends_at == two.starts_at for one, two in pairwise(periods))
        starts = [period.starts_at for period in periods[1:]]
        found = calendar.execute(
            # The first moment of each local date at which a period begins.
            "select min(moment) from generate_series(%s::timestamptz, %s, '15 minutes') as moment "
            "group by date_trunc(%s, moment at time zone %s) order by 1",
            [
                periods[0].starts_at.replace(minute=0, second=0, microsecond=0) - HOUR,
                until,
                str(grain),
                zone,
            ],
        ).fetchall()
        expected = [row[0] for row in found if since < row[0] < until]
        # The grid of a quarter of an hour begins before the window.
        assert starts == expected

    compared()


def test_a_window_is_resolved_against_the_present() -> None:
    now = datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert Window(DAY).bounds(now) == (now - DAY, now)
    assert Window(DAY, until=now - HOUR).bounds(now) == (now - HOUR - DAY, now - HOUR)
    assert Window(None, now - HOUR).bounds(now) == (now - HOUR, now)
    assert Window(None, now - HOUR, now + HOUR).bounds(now) == (now - HOUR, now)
    # What is ahead is no part of its length.
    assert Window(DAY, until=now + 3 * DAY).bounds(now) == (now - DAY, now)
    # Ahead, there is nothing.
    assert Window(None, now + HOUR, now + DAY).bounds(now) == (now, now)
    with pytest.raises(InvalidArgumentError, match="at most 3650"):
        Window(None, now - 3651 * DAY).bounds(now)
