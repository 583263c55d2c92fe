"""A mail: plain text and HTML, over SMTP."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from fiml.alerts.channels.document import alert_title
from fiml.alerts.model import Security, SmtpChannel
from fiml.alerts.notices import Notice
from fiml.alerts.templates import rendered
from fiml.alerts.wording import plain
from fiml.errors import DeliveryError, SettingsError

__all__ = ["Attachment", "alert_mail", "compose", "send_mail"]

_LONGEST_SUBJECT: Final = 200
# It refuses a header with a line break, and asks no server for more than the oldest can.
_POLICY: Final = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail; `kind` is its media type, such as `application/pdf`."""

    name: str
    kind: str
    content: bytes


def alert_mail(channel: SmtpChannel, notice: Notice) -> EmailMessage:
    """The mail that tells of an episode's begin or end; the end is an answer to the begin."""
    values = {"notice": notice, "title": alert_title(notice)}
    first = f"{notice.episode_id}.fired"
    return compose(
        channel,
        channel.recipients,
        subject=alert_title(notice),
        key=notice.key,
        answers=first if notice.kind == "over" else None,
        text=rendered("alert.txt", values),
        html=rendered("alert.html", values),
    )


def compose(
    channel: SmtpChannel,
    recipients: Sequence[str],
    *,
    subject: str,
    key: str,
    text: str,
    html: str,
    answers: str | None = None,
    attachments: Sequence[Attachment] = (),
) -> EmailMessage:
    """A mail whose Message-ID is the same at every attempt.

    Args:
        key: of the notice.
        answers: the key of the one that it belongs to.
    """
    domain = channel.sender.rpartition("@")[2]
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = channel.sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = plain(subject)[:_LONGEST_SUBJECT]
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{key}@{domain}>"
    if answers is not None:
        mail["In-Reply-To"] = mail["References"] = f"<{answers}@{domain}>"
    # RFC 3834: nobody's absence is to answer.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    mail.add_alternative(html, subtype="html")
    for attachment in attachments:
        maintype, _, subtype = attachment.kind.partition("/")
        mail.add_attachment(
            attachment.content, maintype=maintype, subtype=subtype, filename=attachment.name
        )
    return mail


async def send_mail(channel: SmtpChannel, mail: EmailMessage) -> None:
    """Send a mail; it is sent where the server took it for one recipient at least.

    Raises:
        DeliveryError: the server did not take it, cannot be reached, does not offer the encryption
            that is asked for or is not trusted, or the password cannot be used.
    """
    try:
        password = channel.password.read() if channel.password is not None else None
        await asyncio.to_thread(_send, channel, mail, password)
    except SettingsError as error:
        raise DeliveryError(str(error)) from None
    except smtplib.SMTPAuthenticationError:
        raise DeliveryError("the server refused the login") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise DeliveryError(f"every recipient was refused: {_listed(codes)}") from None
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(f"the server answered {error.smtp_code}") from None
    except smtplib.SMTPNotSupportedError:
        raise DeliveryError("the server offers no STARTTLS, or no login") from None
    except smtplib.SMTPException as error:
        if isinstance(error.__context__, TimeoutError):
            raise DeliveryError(f"no answer within {channel.timeout_seconds} s") from None
        raise DeliveryError(f"the exchange failed: {type(error).__name__}") from None
    except ssl.SSLError as error:
        raise DeliveryError(f"no trusted encryption: {error.reason or 'unknown'}") from None
    except TimeoutError:
        raise DeliveryError(f"no answer within {channel.timeout_seconds} s") from None
    except OSError as error:
        raise DeliveryError(f"cannot connect: {error.strerror or type(error).__name__}") from None


def _send(channel: SmtpChannel, mail: EmailMessage, password: str | None) -> None:
    # Certificates of SSL_CERT_FILE, or of the system.
    context = ssl.create_default_context()
    seconds = channel.timeout_seconds
    server = (
        smtplib.SMTP_SSL(channel.host, channel.port, timeout=seconds, context=context)
        if channel.security is Security.TLS
        else smtplib.SMTP(channel.host, channel.port, timeout=seconds)
    )
    try:
        if channel.security is Security.STARTTLS:
            server.starttls(context=context)
        if channel.user is not None:
            server.login(channel.user, str(password))
        server.send_message(mail)
        # It is sent, however the server says goodbye.
        with suppress(OSError):
            server.quit()
    finally:
        server.close()


def _listed(codes: Sequence[int]) -> str:
    return ", ".join(map(str, codes))
