"""Weekly reports: of the right week, with the library's figures, and once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alerts.world import Connection, File, Mailbox, tags
from hostile.strings import hostile_strings
from pypdf import PdfReader
from warehouse.application import one

from fiml.alerts.evaluation import evaluate
from fiml.alerts.model import Report
from fiml.alerts.reports import send_reports
from fiml.alerts.weeks import Week, latest_due
from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

# A Wednesday; the week that ended last is 2026-W12, with the change of the clocks a week later.
WEDNESDAY = datetime(2026, 3, 25, 12, tzinfo=UTC)
WEEK = "2026-W12"


def add(
    database: Connection, created_at: str, *, names: str = '["AAPL"]', user: str = "ann"
) -> None:
    database.execute(
        """
        insert into session_metrics (
            session_id, user_id, session_type, created_at, duration_seconds, total_queries,
            assets_analyzed, query_type_summary, tags, completed_normally
        )
        values (gen_random_uuid(), %s, 'equity', %s, 90, 3, %s, '{"price": 3}', %s, true)
        """,
        [user, created_at, names, names],
    )


@pytest.fixture
def reporting(file: File, mailbox: Mailbox, tmp_path: Path) -> Callable[..., None]:
    """`reporting(...)` writes a file with one report, which is mailed and written."""

    def write(**report: Any) -> None:
        (tmp_path / "reports").mkdir(exist_ok=True)
        file.channels["mail"] = {
            "kind": "smtp",
            "host": "127.0.0.1",
            "port": mailbox.port,
            "security": "none",
            "sender": "alerts@example.com",
            "recipients": ["team@example.com"],
        }
        given = {"name": "platform", "channel": "mail", "folder": "reports", **report}
        file.reports = [{key: value for key, value in given.items() if value is not None}]
        file.write()

    return write


def text_of(pdf: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).split())


def of(timezone: str, at: time = time(6)) -> Report:
    return Report("r", "R", None, None, ZoneInfo(timezone), at, None, (), None)


@pytest.mark.parametrize(
    ("timezone", "now", "week"),
    [
        ("UTC", "2026-03-23T05:59:59+00:00", "2026-W11"),
        ("UTC", "2026-03-23T06:00:00+00:00", "2026-W12"),
        ("UTC", "2026-03-29T23:59:59+00:00", "2026-W12"),
        ("UTC", "2026-03-30T05:59:59+00:00", "2026-W12"),
        # In summer time since the Sunday before.
        ("Europe/Athens", "2026-03-30T02:59:59+00:00", "2026-W12"),
        ("Europe/Athens", "2026-03-30T03:00:00+00:00", "2026-W13"),
        ("Pacific/Kiritimati", "2026-03-29T16:00:00+00:00", "2026-W13"),
        ("Pacific/Pago_Pago", "2026-03-30T16:59:00+00:00", "2026-W12"),
        # Years of weeks are not those of the calendar.
        ("UTC", "2027-01-04T06:00:00+00:00", "2026-W53"),
        ("UTC", "2026-01-05T06:00:00+00:00", "2026-W01"),
    ],
)
def test_the_latest_week_that_is_due(timezone: str, now: str, week: str) -> None:
    found = latest_due(of(timezone), datetime.fromisoformat(now))
    assert found.label == week
    assert Week.named(week, ZoneInfo(timezone)) == found


@pytest.mark.parametrize(
    ("timezone", "week", "since", "hours"),
    [
        ("UTC", "2026-W13", "2026-03-23T00:00:00+00:00", 168),
        ("Europe/Athens", "2026-W13", "2026-03-22T22:00:00+00:00", 167),
        ("Europe/Athens", "2026-W43", "2026-10-18T21:00:00+00:00", 169),
        # There is no midnight: the day begins at one o'clock.
        ("Asia/Beirut", "2026-W13", "2026-03-22T22:00:00+00:00", 167),
        ("Asia/Kathmandu", "2026-W13", "2026-03-22T18:15:00+00:00", 168),
    ],
)
def test_a_week_is_from_monday_to_monday_in_its_zone(
    timezone: str, week: str, since: str, hours: int
) -> None:
    found = Week.named(week, ZoneInfo(timezone))
    assert found.since.isoformat() == since
    assert found.until - found.since == timedelta(hours=hours)


async def test_it_is_mailed_and_written_once_however_often_it_runs(
    database: Connection,
    settings: Settings,
    reporting: Callable[..., None],
    mailbox: Mailbox,
    tmp_path: Path,
) -> None:
    add(database, "2026-03-18 10:00+00")
    reporting()
    first = await send_reports(settings, WEDNESDAY)
    assert first.delivered == [("platform", WEEK, "mail"), ("platform", WEEK, "(folder)")]
    await asyncio.gather(*(send_reports(settings, WEDNESDAY) for _ in range(4)))
    assert (await send_reports(settings, WEDNESDAY + timedelta(days=4))).delivered == []
    assert len(mailbox.mails) == 1
    assert [path.name for path in (tmp_path / "reports").iterdir()] == [f"platform.{WEEK}.pdf"]
    later = await send_reports(settings, WEDNESDAY + timedelta(days=7))
    assert {week for _, week, _ in later.delivered} == {"2026-W13"}
    ids = [mail.message["Message-ID"] for mail in mailbox.mails]
    assert ids == [f"<platform.{week}@example.com>" for week in (WEEK, "2026-W13")]


async def test_however_many_send_at_once_it_is_sent_once(
    settings: Settings, reporting: Callable[..., None], mailbox: Mailbox
) -> None:
    reporting()
    sent = await asyncio.gather(*(send_reports(settings, WEDNESDAY) for _ in range(5)))
    assert len(mailbox.mails) == 1
    assert sum(len(one_of.delivered) for one_of in sent) == 2


async def test_its_figures_are_the_librarys(
    database: Connection, settings: Settings, reporting: Callable[..., None], mailbox: Mailbox
) -> None:
    zone = "Europe/Athens"
    # The first and the last moment of the week there, and those beside it.
    for moment in (
        # So long ago that the week before is a whole one.
        "2026-03-01 12:00:00+00",
        "2026-03-15 21:59:59.999999+00",
        "2026-03-15 22:00:00+00",
        "2026-03-18 12:00:00+00",
        "2026-03-22 21:59:59.999999+00",
        "2026-03-22 22:00:00+00",
    ):
        add(database, moment)
    reporting(timezone=zone, title="How it went")
    assert (await send_reports(settings, WEDNESDAY)).succeeded
    async with Database(settings) as pool:
        stats = await SessionAnalytics(pool).get_session_stats(
            since="2026-03-15T22:00:00+00:00", until="2026-03-22T22:00:00+00:00"
        )
    assert stats["total_sessions"] == 3
    [mail] = mailbox.mails
    assert mail.message["Subject"] == f"How it went, {WEEK}"
    text = mail.part("plain")
    assert f"{WEEK}: 16 to 22 March 2026 (Europe/Athens)\nEverybody, all types\n" in text
    figures = dict(re.findall(r"^([A-Z][a-z ]+?) {2,}(.+?)   ", text, re.MULTILINE))
    assert figures == {
        "Sessions": "3",
        "Queries": "9",
        "Queries per session": "3.00",
        "Average duration": "1 min 30 s",
        "Abandoned": "0.0 %",
        "Archived": "0",
    }
    assert "+200.0 %" in text
    days = re.findall(r"^  (\w{3} [0-9-]{10}) +(\d+) sessions", text, re.MULTILINE)
    assert days == [
        ("Mon 2026-03-16", "1"),
        ("Tue 2026-03-17", "0"),
        ("Wed 2026-03-18", "1"),
        ("Thu 2026-03-19", "0"),
        ("Fri 2026-03-20", "0"),
        ("Sat 2026-03-21", "0"),
        ("Sun 2026-03-22", "1"),
    ]
    html = mail.part("html")
    assert "AAPL" in html
    assert "+200.0 %" in html
    [attached] = mail.message.iter_attachments()
    assert attached.get_filename() == f"platform.{WEEK}.pdf"
    assert attached.get_content_type() == "application/pdf"
    shown = text_of(attached.get_content())
    for said in ("How it went", "16 to 22 March 2026", "1 min 30 s", "AAPL", "+200.0"):
        assert said in shown


async def test_it_is_of_one_user_and_names_nobody(
    database: Connection,
    settings: Settings,
    reporting: Callable[..., None],
    mailbox: Mailbox,
) -> None:
    user = "zz-somebody-of-the-tests"
    add(database, "2026-03-18 10:00+00", user=user)
    add(database, "2026-03-18 10:00+00")
    reporting(user_id=user, recipients=["somebody@example.com"])
    await send_reports(settings, WEDNESDAY)
    [mail] = mailbox.mails
    assert mail.recipients == ["somebody@example.com"]
    assert re.search(r"^Sessions +1 ", mail.part("plain"), re.MULTILINE)
    kept = database.execute("select * from analytics.notices").fetchall()
    assert user not in repr(kept) + mail.content.decode() + mail.part("html")
    [attached] = mail.message.iter_attachments()
    shown = text_of(attached.get_content())
    assert "one user" in shown
    assert user not in shown


async def test_a_week_without_sessions_says_so(
    settings: Settings, reporting: Callable[..., None], mailbox: Mailbox
) -> None:
    reporting()
    await send_reports(settings, WEDNESDAY)
    assert "No session metrics available yet." in mailbox.mails[0].part("plain")


async def test_what_fails_is_tried_again_and_the_rest_is_sent(
    database: Connection,
    settings: Settings,
    reporting: Callable[..., None],
    mailbox: Mailbox,
    tmp_path: Path,
) -> None:
    reporting()
    (tmp_path / "reports").rmdir()
    mailbox.answer = "451 not now"
    failed = await send_reports(settings, WEDNESDAY)
    assert failed.undelivered == {
        ("platform", "mail"): "the server answered 451",
        ("platform", "(folder)"): (
            f"cannot write to the folder {tmp_path / 'reports'}: No such file or directory; make "
            "it first"
        ),
    }
    (tmp_path / "reports").mkdir()
    mailbox.answer = None
    again = await send_reports(settings, WEDNESDAY)
    assert len(again.delivered) == 2
    # The week is that of its first attempt, when it is sent after the next one is due, too.
    assert len(mailbox.mails) == 1


async def test_what_waits_for_its_next_attempt_is_a_failure_and_is_sent_where_that_is_asked(
    settings: Settings, reporting: Callable[..., None], mailbox: Mailbox
) -> None:
    reporting(folder=None)
    mailbox.answer = "451 not now"
    for _ in range(2):
        assert not (await send_reports(settings, WEDNESDAY)).succeeded
    mailbox.answer = None
    waiting = await send_reports(settings, WEDNESDAY)
    assert (waiting.delivered, mailbox.mails) == ([], [])
    assert waiting.undelivered == {("platform", "mail"): "the server answered 451"}
    asked = await send_reports(settings, WEDNESDAY, at_once=True)
    assert asked.delivered == [("platform", WEEK, "mail")]
    assert asked.succeeded


async def test_a_file_is_written_whole_or_not_at_all(
    settings: Settings,
    reporting: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reporting()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        failed = await send_reports(settings, WEDNESDAY)
    problem = f"cannot write to the folder {tmp_path / 'reports'}: No space left on device"
    assert failed.undelivered == {("platform", "(folder)"): problem}
    assert list((tmp_path / "reports").iterdir()) == []
    assert (await send_reports(settings, WEDNESDAY)).succeeded


async def test_a_report_that_is_removed_is_given_up(
    database: Connection,
    settings: Settings,
    reporting: Callable[..., None],
    mailbox: Mailbox,
    file: File,
) -> None:
    reporting()
    mailbox.answer = "451 not now"
    await send_reports(settings, WEDNESDAY)
    file.reports = []
    file.write()
    await evaluate(settings)
    waiting = "delivered_at is null and given_up_at is null"
    assert one(database, f"select count(*) from analytics.notices where {waiting}") == 0


async def test_what_waits_for_a_way_that_the_report_has_no_more_is_given_up(
    database: Connection,
    settings: Settings,
    reporting: Callable[..., None],
    mailbox: Mailbox,
    tmp_path: Path,
) -> None:
    reporting()
    (tmp_path / "reports").rmdir()
    mailbox.answer = "451 not now"
    await send_reports(settings, WEDNESDAY)
    # The channel stays in the file.
    reporting(channel=None)
    await evaluate(settings)
    given_up = "select channel, given_up_at is not null from analytics.notices order by 1"
    assert database.execute(given_up).fetchall() == [("(folder)", False), ("mail", True)]


async def test_no_name_makes_a_tag_or_a_line(
    database: Connection, settings: Settings, reporting: Callable[..., None], mailbox: Mailbox
) -> None:
    import json

    names = [
        text
        for text in hostile_strings(300)
        if 0 < len(text) <= 255
        and "\0" not in text
        and not any(0xD800 <= ord(character) < 0xE000 for character in text)
    ]
    for number, start in enumerate(range(0, len(names), 10)):
        database.execute("delete from session_metrics")
        add(database, "2026-03-18 10:00+00", names=json.dumps(names[start : start + 10]))
        reporting(name=f"report-{number}", folder=None)
        assert (await send_reports(settings, WEDNESDAY)).succeeded
    plain = {len(mail.part("plain").split("\n")) for mail in mailbox.mails[:-1]}
    assert len(plain) == 1
    assert len({tuple(tags(mail.part("html"))) for mail in mailbox.mails[:-1]}) == 1
    for mail in mailbox.mails:
        assert "\x1b" not in mail.part("plain") + mail.part("html")
