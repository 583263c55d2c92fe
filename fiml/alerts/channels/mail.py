"""A mail: plain text and HTML, over SMTP."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import threading
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

__all__ = ["Attachment", "alert_mail", "compose", "seconds_for_mail", "send_mail"]

_LONGEST_SUBJECT: Final = 200
# Connecting, greeting, encryption, login, sender, recipients, content, answer.
_STEPS: Final = 8
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


def seconds_for_mail(channel: SmtpChannel) -> float:
    """What a delivery may take, all steps together."""
    return float(channel.timeout_seconds * _STEPS)


async def send_mail(channel: SmtpChannel, mail: EmailMessage) -> None:
    """Send a mail; it is sent where the server took it for one recipient at least.

    Raises:
        DeliveryError: the server did not take it, cannot be reached, does not come to
            an end in time, does not offer the encryption that is asked for or is not trusted, or
            the password cannot be used.
    """
    line = _Line()
    deadline = asyncio.timeout(seconds_for_mail(channel))
    try:
        password = channel.password.read() if channel.password is not None else None
        async with deadline:
            await asyncio.to_thread(_send, channel, mail, password, line)
    except SettingsError as error:
        raise DeliveryError(str(error)) from None
    except UnicodeError:
        # Its own words repeat what it could not encode.
        raise DeliveryError("the user or password is not ASCII, or the host is none") from None
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
        late = f"no end within {seconds_for_mail(channel):.0f} s"
        silent = f"no answer within {channel.timeout_seconds} s"
        raise DeliveryError(late if deadline.expired() else silent) from None
    except OSError as error:
        raise DeliveryError(f"cannot connect: {error.strerror or type(error).__name__}") from None
    finally:
        # The thread is not cancelled with the task that waits for it, and the process waits for it.
        line.cut()


class _Line:
    """The connection of one delivery, which another thread can end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cut = False
        # Of its own: encryption detaches the socket, and to shut an encrypted one down would let
        # the thread that writes to it go on without encryption.
        self._handle: socket.socket | None = None

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """Connect to the first address that answers, each within some seconds."""
        problem = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            try:
                made = socket.socket(family, kind, protocol)
            except OSError as error:
                problem = error
                continue
            try:
                made.settimeout(seconds)
                self._hold(made)
                made.connect(address)
            except OSError as error:
                made.close()
                problem = error
            else:
                return made
        raise problem

    def cut(self) -> None:
        """End it: what waits for the server fails at once, and no other connection begins."""
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def _hold(self, made: socket.socket) -> None:
        self.close()
        with self._lock:
            if self._is_cut:
                raise TimeoutError
            self._handle = made.dup()


class _Server(smtplib.SMTP):
    """A mail server at the end of a line; encrypted from the begin where a context is given."""

    def __init__(self, channel: SmtpChannel, line: _Line, context: ssl.SSLContext | None) -> None:
        self._line = line
        self._context = context
        super().__init__(channel.host, channel.port, timeout=channel.timeout_seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = self._line.connect(host, port, timeout)
        if self._context is None:
            return made
        return self._context.wrap_socket(made, server_hostname=host)


def _send(channel: SmtpChannel, mail: EmailMessage, password: str | None, line: _Line) -> None:
    # Certificates of SSL_CERT_FILE, or of the system.
    context = ssl.create_default_context()
    try:
        server = _Server(channel, line, context if channel.security is Security.TLS else None)
        try:
            if channel.security is Security.STARTTLS:
                server.starttls(context=context)
            if channel.user is not None:
                server.login(channel.user, str(password))
            server.send_message(mail)
            # It is sent, however the server says goodbye, and however long.
            with suppress(OSError):
                server.putcmd("quit")
        finally:
            server.close()
    finally:
        line.close()


def _listed(codes: Sequence[int]) -> str:
    return ", ".join(map(str, codes))
