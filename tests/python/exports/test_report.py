"""What a report says of figures, in words."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from exports.reports import made_up

from fiml.exports.report import FIGURES, Figure, Unit
from fiml.exports.wording import change_of, period_of, said, short, short_span
from fiml.sessions.periods import Grain

SESSIONS = FIGURES[0]
ABANDONED = next(figure for figure in FIGURES if figure.unit is Unit.SHARE)


def changed(figure: Figure, now: float, before: float, **others: int) -> tuple[str, Decimal | None]:
    report = made_up()
    sessions = {"total_sessions": 1, **others}
    report = type(report)(
        {**report.figures, **sessions, figure.key: now},
        report.series,
        {**(report.before or {}), **sessions, figure.key: before},
    )
    change = report.change(figure)
    return change_of(change, figure), None if change is None else change.percent


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (117, 100, "+17.0 %"),
        (1, 3, "\N{MINUS SIGN}66.7 %"),
        (100, 100, "±0.0 %"),
        (20_005, 20_000, "±0.0 %"),
        (0, 8, "\N{MINUS SIGN}100.0 %"),
        (2_001, 1, "+200,000.0 %"),
        (5, 0, ""),
        (0, 0, ""),
    ],
)
def test_a_count_changes_by_a_share_of_what_it_was(now: int, before: int, told: str) -> None:
    assert changed(SESSIONS, now, before)[0] == told


def test_a_share_changes_by_points() -> None:
    assert changed(ABANDONED, 0.1374, 0.1535) == ("\N{MINUS SIGN}1.6 points", Decimal("-1.6"))
    assert changed(ABANDONED, 0.5, 0.0)[0] == "+50.0 points"


def test_half_a_tenth_is_rounded_up_on_either_side() -> None:
    assert changed(SESSIONS, 2_001, 2_000)[1] == Decimal("0.1")
    assert changed(SESSIONS, 1_999, 2_000)[1] == Decimal("-0.1")


def test_an_average_of_nothing_is_compared_with_nothing() -> None:
    assert changed(ABANDONED, 0.5, 0.0, total_sessions=0) == ("", None)


def test_what_is_active_now_has_no_before() -> None:
    active = next(figure for figure in FIGURES if figure.key == "active_sessions")
    assert made_up().change(active) is None
    assert made_up(has_before=False).change(SESSIONS) is None


def test_whole_days_are_dates_and_other_windows_are_to_the_minute() -> None:
    report = made_up()
    athens = ZoneInfo("Europe/Athens")

    def told(since: datetime, until: datetime, zone: ZoneInfo = ZoneInfo("UTC")) -> str:  # noqa: B008
        series = {
            **report.series,
            "since": since.astimezone(UTC).isoformat(),
            "until": until.astimezone(UTC).isoformat(),
            "timezone": zone.key,
        }
        return period_of(type(report)(report.figures, series))

    day = datetime(2026, 11, 1, tzinfo=UTC)
    assert told(day, day + timedelta(days=30)) == "1 to 30 November 2026"
    assert told(day, day + timedelta(days=1)) == "1 November 2026"
    assert told(day - timedelta(days=1), day + timedelta(days=1)) == "31 October to 1 November 2026"
    assert told(day - timedelta(days=400), day) == "27 September 2025 to 31 October 2026"
    assert told(day, day + timedelta(hours=30)) == (
        "1 November 2026, 00:00 to 2 November 2026, 06:00"
    )
    # The day on which clocks are put back has 25 hours, and is a day.
    october = datetime(2026, 10, 25, tzinfo=athens)
    assert told(october, datetime(2026, 10, 26, tzinfo=athens), athens) == "25 October 2026"


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (1_234_567, Unit.COUNT, "1,234,567"),
        (4.5, Unit.AVERAGE, "4.50"),
        (0.1374, Unit.SHARE, "13.7 %"),
        (0.1375, Unit.SHARE, "13.8 %"),
        (0.04, Unit.SECONDS, "0.04 s"),
        (59.99, Unit.SECONDS, "59.99 s"),
        (61.5, Unit.SECONDS, "1 min 01 s"),
        (3_600_000, Unit.SECONDS, "1,000 h 00 min"),
        (None, Unit.COUNT, "\N{EN DASH}"),
    ],
)
def test_figures_are_written_with_their_unit(value: float | None, unit: Unit, told: str) -> None:
    assert said(value, unit) == told


def test_periods_are_called_by_their_beginning() -> None:
    start = datetime(2026, 3, 9, tzinfo=UTC)
    assert [short(start, grain) for grain in Grain] == ["9 Mar", "9 Mar", "9 Mar", "Mar 2026"]
    assert short(start + timedelta(hours=7), Grain.HOUR) == "07:00"
    assert [short(start, grain, with_year=True) for grain in Grain] == [
        "9 Mar 2026, 00:00",
        "Mon 9 Mar 2026",
        "Mon 9 Mar 2026",
        "Mar 2026",
    ]
    assert [short_span(seconds) for seconds in (0, 30, 90, 7200, 172_800)] == [
        *("0 s", "30 s", "1.5 min", "2 h", "2 d"),
    ]
