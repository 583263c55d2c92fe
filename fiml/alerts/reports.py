"""Weekly reports: the figures of the ISO week that has ended, mailed or written, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fiml.alerts.channels import seconds_for
from fiml.alerts.channels.mail import Attachment, compose, send_mail
from fiml.alerts.figures_of_week import body_values, read_week
from fiml.alerts.file import load
from fiml.alerts.model import FOLDER, AlertFile, Report, SmtpChannel
from fiml.alerts.notices import (
    Notice,
    Undelivered,
    deliver,
    delivered_reports,
    enqueue_report,
    undelivered,
)
from fiml.alerts.templates import rendered
from fiml.alerts.weeks import Week, latest_due
from fiml.database import Connection, Database
from fiml.errors import DatabaseError, DeliveryError
from fiml.exports.document import render_report
from fiml.files import replacing
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["LastSent", "Sent", "is_waiting", "last_sent", "next_week", "send_reports"]

# Reading and drawing, and writing to a folder that may be far away.
_SECONDS_TO_MAKE: Final = 120.0


@dataclass(slots=True)
class Sent:
    """What became of the reports that are due.

    Attributes:
        delivered: report, week and channel of each that was sent now.
        undelivered: report and channel of each that failed, now or before, and how the last time.
    """

    reports: int = 0
    delivered: list[tuple[str, str, str]] = field(default_factory=list)
    undelivered: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether everything was sent that is due."""
        return not self.undelivered


@dataclass(frozen=True, slots=True)
class LastSent:
    """The latest week of a report that was sent by every one of its ways.

    Attributes:
        at: when the last of them had it.
    """

    week: str
    at: datetime


async def last_sent(settings: Settings) -> dict[str, LastSent]:
    """What was sent last of each report of the file; nothing of those that never were.

    Raises:
        SettingsError: no file is named, or it cannot be used.
        AlertFileError: something in it is wrong.
        DatabaseError: the database did not answer. See its subclasses.
    """
    async with Database(settings) as database:
        rows = await database.run(delivered_reports, is_repeatable=True)
    found: dict[str, LastSent] = {}
    for report in load(settings).reports:
        weeks = sorted({row.period for row in rows if row.report_name == report.name})
        for week in weeks:
            moments = {
                row.channel: row.delivered_at
                for row in rows
                if (row.report_name, row.period) == (report.name, week)
            }
            if report.ways <= moments.keys():
                found[report.name] = LastSent(week, max(moments[way] for way in report.ways))
    return found


def is_waiting(notice: Undelivered, report: Report) -> bool:
    """Whether a notice that is not delivered is a report's, by a way that the report still has."""
    is_of_it = (notice.kind, notice.subject) == ("report", report.name)
    return is_of_it and notice.channel in report.ways


def next_week(report: Report, sent: LastSent | None, now: datetime) -> tuple[Week, datetime]:
    """The week that is to be sent next, and from when on: the past, where it is due."""
    week = latest_due(report, now)
    if sent is not None and sent.week >= week.label:
        week = week.next
    return week, week.due(report.at)


async def send_reports(
    settings: Settings, now: datetime | None = None, *, at_once: bool = False
) -> Sent:
    """Send the reports that are due and were not sent: each week's once for each channel.

    Args:
        settings: the alert file, and the database.
        now: for the choice of the week; default: the time of this machine.
        at_once: also what failed before and is to wait for its next attempt.

    Raises:
        SettingsError: no file is named, or it cannot be used.
        AlertFileError: something in it is wrong.
        DatabaseError: the database did not answer; what is due stays so. See its subclasses.
    """
    alerts = load(settings)
    sent = Sent(reports=len(alerts.reports))
    moment = now if now is not None else datetime.now(UTC)
    async with (
        Database(settings.connecting_as(Purpose.READER)) as figures,
        Database(settings.connecting_as(Purpose.BUILDER)) as state,
    ):
        for report in alerts.reports:
            ways = _ways(report, alerts, figures)
            await _send(report, latest_due(report, moment), ways, state, sent, at_once=at_once)
    return sent


async def _send(
    report: Report,
    week: Week,
    ways: Mapping[str, _Way],
    state: Database,
    sent: Sent,
    *,
    at_once: bool,
) -> None:
    async def enqueue(connection: Connection) -> None:
        await enqueue_report(connection, report.name, week.label, list(ways))

    await state.run(enqueue, is_repeatable=True)
    for channel, (send, seconds) in ways.items():
        delivered, problem = await deliver(
            state,
            channel,
            send,
            kinds=("report",),
            report_name=report.name,
            seconds=seconds + _SECONDS_TO_MAKE,
            at_once=at_once,
        )
        sent.delivered += [(report.name, str(notice.period), channel) for notice in delivered]
        if problem is not None:
            sent.undelivered[report.name, channel] = problem
    # What failed before and was not tried now is no less a failure.
    for notice in await state.run(undelivered, is_repeatable=True):
        if is_waiting(notice, report) and notice.problem is not None:
            sent.undelivered.setdefault((report.name, notice.channel), notice.problem)


_Way = tuple[Callable[[Notice], Awaitable[None]], float]


def _ways(report: Report, alerts: AlertFile, figures: Database) -> Mapping[str, _Way]:
    """How the report is delivered, by channel."""
    ways: dict[str, _Way] = {}
    mail = next((channel for channel in alerts.channels if channel.name == report.channel), None)
    if isinstance(mail, SmtpChannel):

        async def send(notice: Notice) -> None:
            values, pdf = await _made(report, notice, figures)
            await send_mail(
                mail,
                compose(
                    mail,
                    report.recipients,
                    subject=f"{report.title}, {notice.period}",
                    key=notice.key,
                    text=rendered("report.txt", values),
                    html=rendered("report.html", values),
                    attachments=[Attachment(f"{notice.key}.pdf", "application/pdf", pdf)],
                ),
            )

        ways[mail.name] = (send, seconds_for(mail))
    folder = report.folder
    if folder is not None:

        async def write(notice: Notice) -> None:
            _, pdf = await _made(report, notice, figures)
            try:
                with replacing(folder / f"{notice.key}.pdf") as file:
                    file.write(pdf)
            except OSError as error:
                hint = "; make it first" if isinstance(error, FileNotFoundError) else ""
                raise DeliveryError(
                    f"cannot write to the folder {folder}: {error.strerror}{hint}"
                ) from None

        ways[FOLDER] = (write, 0.0)
    return ways


async def _made(
    report: Report, notice: Notice, figures: Database
) -> tuple[Mapping[str, Any], bytes]:
    """What the body says, and the PDF: of the same figures."""
    week = Week.named(str(notice.period), report.timezone)
    try:
        read = await read_week(figures, report, week)
        pdf = await asyncio.to_thread(render_report, read, title=report.title)
    except (DatabaseError, ModuleNotFoundError) as error:
        raise DeliveryError(str(error)) from None
    return body_values(report, week, read), pdf
