"""How a notice reaches people: the log, a webhook, a mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fiml.alerts.channels.log import write_line
from fiml.alerts.channels.mail import alert_mail, seconds_for_mail, send_mail
from fiml.alerts.channels.webhook import post
from fiml.alerts.model import Channel, LogChannel, SmtpChannel, WebhookChannel
from fiml.alerts.notices import Notice

__all__ = ["seconds_for", "sender"]


def sender(channel: Channel) -> Callable[[Notice], Awaitable[None]]:
    """What delivers a notice of an episode there, or raises `DeliveryError`."""

    async def send(notice: Notice) -> None:
        match channel:
            case LogChannel():
                write_line(notice)
            case WebhookChannel():
                await post(channel, notice)
            case SmtpChannel():
                await send_mail(channel, alert_mail(channel, notice))

    return send


def seconds_for(channel: Channel) -> float:
    """What a delivery there may take."""
    match channel:
        case LogChannel():
            return 1.0
        case WebhookChannel():
            return float(channel.timeout_seconds)
        case SmtpChannel():
            return seconds_for_mail(channel)
