"""Wrong arguments are refused before any query, by name."""

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sessions.examples import Connection, write

from fiml.errors import (
    DatabaseError,
    InvalidArgumentError,
    InvalidDaysError,
    InvalidUserIdError,
    UnknownSessionTypeError,
    UnsupportedExportFormatError,
)
from fiml.sessions.analytics import MAX_DAYS, SessionAnalytics
from fiml.sessions.models import SessionType

pytestmark = pytest.mark.anyio

WRONG_DAYS = [
    True,
    False,
    0,
    -1,
    MAX_DAYS + 1,
    1.0,
    30.5,
    math.nan,
    math.inf,
    "30",
    "",
    None,
    [30],
    10**30,
]

WRONG_USERS = ["", "a\0b", "\0", "x" * 256, b"ann", 7, 7.0, True, "\ud800", "a\udfffb", ["ann"], {}]

WRONG_TYPES = ["unknown", "", "Equity", " equity", "EQUITY", "equity\0", 7, True, b"equity", [], {}]


def questions(closed: SessionAnalytics) -> list[Callable[..., Awaitable[Any]]]:
    return [
        closed.get_session_stats,
        closed.export_session_metrics,
        lambda **given: closed.export_session_metrics("csv", **given),
    ]


@pytest.mark.parametrize("days", WRONG_DAYS, ids=lambda days: f"{days}"[:9])
async def test_wrong_days_are_refused_before_any_query(closed: SessionAnalytics, days: Any) -> None:
    for ask in (*questions(closed), partial(closed.get_user_session_summary, "ann")):
        with pytest.raises(InvalidDaysError, match="expected an integer from 1 to 3650") as refusal:
            await ask(days=days)
        assert isinstance(refusal.value, ValueError)
        assert f"days is {days!r};" in str(refusal.value)


@pytest.mark.parametrize("given", [10**5000, -(10**5000), "x" * 10**6, [0] * 10**5], ids=type)
async def test_what_is_too_long_to_repeat_is_refused_all_the_same(
    closed: SessionAnalytics, given: Any
) -> None:
    for argument in ("days", "user_id", "session_type", "format"):
        with pytest.raises(InvalidArgumentError) as refusal:
            await closed.export_session_metrics(**{argument: given})
        assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("user_id", WRONG_USERS, ids=lambda user_id: ascii(user_id)[:20])
async def test_wrong_user_ids_are_refused_before_any_query_and_not_repeated(
    closed: SessionAnalytics, user_id: Any
) -> None:
    for ask in (*questions(closed), closed.get_user_session_summary):
        with pytest.raises(InvalidUserIdError, match=r"^user_id .*; expected a string") as refusal:
            await ask(user_id=user_id)
        assert isinstance(refusal.value, ValueError)
        if isinstance(user_id, str) and user_id:
            assert user_id not in str(refusal.value)


async def test_no_user_is_everybody_but_never_somebody_s_summary(
    analytics: SessionAnalytics, closed: SessionAnalytics, database: Connection
) -> None:
    write(database)
    assert (await analytics.get_session_stats(user_id=None))["total_sessions"] == 1
    with pytest.raises(InvalidUserIdError, match="None"):
        await closed.get_user_session_summary(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("session_type", WRONG_TYPES, ids=repr)
async def test_unknown_session_types_are_refused_before_any_query(
    closed: SessionAnalytics, session_type: Any
) -> None:
    for ask in questions(closed):
        with pytest.raises(UnknownSessionTypeError) as refusal:
            await ask(session_type=session_type)
        assert isinstance(refusal.value, ValueError)
        assert f"{session_type!r}; expected one of " in str(refusal.value)
        for known in SessionType:
            assert known.value in str(refusal.value)


@pytest.mark.parametrize("export_format", ["xml", "", "JSON", "csv ", None, 7, b"csv"], ids=repr)
async def test_unknown_export_formats_are_refused_before_any_query(
    closed: SessionAnalytics, export_format: Any
) -> None:
    with pytest.raises(
        UnsupportedExportFormatError, match=r"^Unsupported export format"
    ) as refusal:
        await closed.export_session_metrics(format=export_format)
    assert isinstance(refusal.value, ValueError)
    assert repr(export_format) in str(refusal.value)
    assert "'json'" in str(refusal.value)
    assert "'csv'" in str(refusal.value)


async def test_arguments_at_their_limits_are_taken(
    analytics: SessionAnalytics, database: Connection
) -> None:
    longest = "😀" * 255
    write(database, user_id=longest)
    for days in (1, MAX_DAYS):
        assert (await analytics.get_session_stats(longest, days=days))["total_sessions"] == 1
    for odd in ("'; drop table sessions; --", "%s", "%(days)s", "\\", "\n", " ", "null", "e\u0301"):
        assert (await analytics.get_session_stats(odd))["user_id"] == odd


async def test_a_reader_that_was_never_opened_says_so(closed: SessionAnalytics) -> None:
    with pytest.raises(DatabaseError, match="not initialised"):
        await closed.get_session_stats()
