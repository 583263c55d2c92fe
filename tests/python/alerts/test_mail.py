"""Mails, against a server: what is sent, how it is encrypted, and what counts as delivered."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from alerts.world import Connection, File, Mailbox, Receiver, add_sessions, dripping, mailing, tags
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hostile.strings import hostile_strings

from fiml.alerts.channels import mail as mail_module
from fiml.alerts.evaluation import evaluate
from fiml.alerts.model import Security, SmtpChannel
from fiml.errors import DeliveryError
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def mail(database: Connection, file: File) -> Callable[..., None]:
    """`mail(port, ...)` is where the one rule tells that it fired."""

    def write(port: int, **channel: Any) -> None:
        file.channels["mail"] = {
            "kind": "smtp",
            "host": "127.0.0.1",
            "port": port,
            "security": "none",
            "sender": "alerts@example.com",
            "recipients": ["ann@example.com", "bob@example.com"],
            **channel,
        }
        file.rule(channels=["mail"])

    add_sessions(database, 10, abandoned=True)
    return write


async def test_it_is_a_mail_with_text_and_html_and_its_end_is_an_answer(
    database: Connection,
    settings: Settings,
    mail: Callable[..., None],
    mailbox: Mailbox,
    file: File,
) -> None:
    mail(mailbox.port)
    file.rule(channels=["mail"], description="Look at the start page.", severity="critical")
    assert (await evaluate(settings)).succeeded
    add_sessions(database, 90)
    assert (await evaluate(settings)).succeeded
    fired, over = mailbox.mails
    assert (fired.sender, fired.recipients) == (
        "alerts@example.com",
        ["ann@example.com", "bob@example.com"],
    )
    assert (fired.message["From"], fired.message["To"]) == (
        "alerts@example.com",
        "ann@example.com, bob@example.com",
    )
    assert fired.message["Subject"] == "[critical] High abandonment"
    assert over.message["Subject"] == "[over] High abandonment"
    assert fired.message["Auto-Submitted"] == "auto-generated"
    assert over.message["In-Reply-To"] == fired.message["Message-ID"]
    assert re.fullmatch(r"<[0-9a-f-]{36}\.fired@example\.com>", fired.message["Message-ID"])
    assert re.fullmatch(r"<[0-9a-f-]{36}\.over@example\.com>", over.message["Message-ID"])
    for kind in ("plain", "html"):
        assert "abandonment_rate is 1, above 0.3" in fired.part(kind)
        assert "Look at the start page." in fired.part(kind)
        assert "no longer above 0.3" in over.part(kind)


async def test_the_same_mail_has_the_same_id_at_every_attempt(
    database: Connection, settings: Settings, mail: Callable[..., None], mailbox: Mailbox
) -> None:
    mail(mailbox.port)
    await evaluate(settings)
    # As after a commit that did not come.
    database.execute("update analytics.notices set delivered_at = null")
    await evaluate(settings)
    first, second = mailbox.mails
    assert first.message["Message-ID"] == second.message["Message-ID"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("451 not now", "the server answered 451"),
        ("554 spam", "the server answered 554"),
        ("what", "the server answered -1"),
    ],
)
async def test_a_mail_that_is_not_taken_is_kept(
    database: Connection,
    settings: Settings,
    mail: Callable[..., None],
    mailbox: Mailbox,
    answer: str,
    problem: str,
) -> None:
    mail(mailbox.port)
    mailbox.answer = answer
    assert (await evaluate(settings)).undelivered == {"mail": problem}
    mailbox.answer = None
    assert len((await evaluate(settings)).delivered) == 1
    assert len(mailbox.mails) == 1


async def test_a_server_that_is_not_there(settings: Settings, mail: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    mail(port)
    problem = "cannot connect: Connection refused"
    assert (await evaluate(settings)).undelivered == {"mail": problem}


async def test_a_server_that_says_nothing_is_left(
    settings: Settings, mail: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mail(silent.getsockname()[1], timeout_seconds=1)
        assert (await evaluate(settings)).undelivered == {"mail": "no answer within 1 s"}


@pytest.mark.parametrize("after", [None, "DATA"])
def test_a_server_that_goes_on_talking_is_left_at_the_deadline(
    settings: Settings,
    mail: Callable[..., None],
    receiver: Receiver,
    file: File,
    after: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 2 s of all, which is less than a step may take.
    monkeypatch.setattr(mail_module, "_STEPS", 1 / 30)
    with dripping(after=after) as port:
        mail(port, timeout_seconds=60)
        file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
        file.rule(channels=["mail", "hook"])
        # It ends while the server still talks: the thread that listened is over too.
        found = asyncio.run(evaluate(settings))
    assert found.undelivered == {"mail": "no end within 2 s"}
    assert receiver.events == ["fired"]


async def test_a_mail_is_sent_however_long_the_server_says_goodbye(
    settings: Settings, mail: Callable[..., None]
) -> None:
    with dripping(after="QUIT") as port:
        mail(port)
        found = await evaluate(settings)
    assert (found.undelivered, len(found.delivered)) == ({}, 1)


def test_a_line_that_is_cut_connects_no_more() -> None:
    line = mail_module._Line()
    line.cut()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(TimeoutError),
    ):
        line.connect("127.0.0.1", server.getsockname()[1], 1)


# Encryption and login ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*certificate)
    return made


async def test_it_logs_in_over_starttls(
    settings: Settings,
    mail: Callable[..., None],
    context: ssl.SSLContext,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    (tmp_path / "password").write_text("zz-password\n")
    (tmp_path / "password").chmod(0o600)
    with mailing(context, {"alerts": "zz-password"}) as mailbox:
        mail(mailbox.port, security="starttls", user="alerts", password_file="password")
        assert (await evaluate(settings)).succeeded
    assert [sent.user for sent in mailbox.mails] == ["alerts"]


async def test_a_server_that_is_encrypted_from_the_begin_has_to_be_trusted(
    settings: Settings,
    mail: Callable[..., None],
    context: ssl.SSLContext,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mailing(context, is_encrypted=True) as mailbox:
        mail(mailbox.port, security="tls")
        failed = await evaluate(settings)
        assert failed.undelivered == {"mail": "no trusted encryption: CERTIFICATE_VERIFY_FAILED"}
        assert mailbox.mails == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert (await evaluate(settings)).succeeded
    assert len(mailbox.mails) == 1


async def test_a_wrong_password_is_told_and_not_repeated(
    settings: Settings,
    mail: Callable[..., None],
    context: ssl.SSLContext,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("MAIL_PASSWORD", "zz-wrong")
    with mailing(context, {"alerts": "zz-password"}) as mailbox:
        mail(mailbox.port, security="starttls", user="alerts", password_variable="MAIL_PASSWORD")
        failed = await evaluate(settings)
    assert failed.undelivered == {"mail": "the server refused the login"}
    assert mailbox.mails == []


async def test_a_password_that_cannot_be_sent_is_not_repeated(
    settings: Settings,
    mail: Callable[..., None],
    context: ssl.SSLContext,
    certificate: tuple[Path, Path],
    receiver: Receiver,
    file: File,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("MAIL_PASSWORD", "zz-pässwörd")
    with mailing(context, {"alerts": "zz-password"}) as mailbox:
        mail(mailbox.port, security="starttls", user="alerts", password_variable="MAIL_PASSWORD")
        file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
        file.rule(channels=["mail", "hook"])
        failed = await evaluate(settings)
    problem = "the user or password is not ASCII, or the host is none"
    assert failed.undelivered == {"mail": problem}
    assert mailbox.mails == []
    assert receiver.events == ["fired"]


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
async def test_a_host_that_cannot_be_one_is_a_failed_delivery(host: str) -> None:
    channel = SmtpChannel(
        "mail", host, 25, Security.NONE, None, None, "a@example.com", ("b@example.com",), 1
    )
    made = mail_module.compose(
        channel, channel.recipients, subject="s", key="key", text="", html=""
    )
    with pytest.raises(DeliveryError, match="the host is none"):
        await mail_module.send_mail(channel, made)


async def test_a_server_that_is_not_trusted_gets_nothing(
    settings: Settings, mail: Callable[..., None], context: ssl.SSLContext
) -> None:
    with mailing(context) as mailbox:
        mail(mailbox.port, security="starttls")
        failed = await evaluate(settings)
    assert failed.undelivered == {"mail": "no trusted encryption: CERTIFICATE_VERIFY_FAILED"}
    assert mailbox.mails == []


async def test_a_server_without_encryption_gets_nothing(
    settings: Settings, mail: Callable[..., None], mailbox: Mailbox
) -> None:
    mail(mailbox.port, security="starttls")
    failed = await evaluate(settings)
    assert failed.undelivered == {"mail": "the server offers no STARTTLS, or no login"}
    assert mailbox.mails == []


# Injection ----------------------------------------------------------------------------------------


async def test_no_name_makes_a_header_or_a_tag(
    settings: Settings, mail: Callable[..., None], mailbox: Mailbox, file: File
) -> None:
    names = [
        text
        for text in hostile_strings(300)
        if 0 < len(text) <= 100 and text.isprintable() and text == text.strip()
    ]
    mail(mailbox.port)
    file.rules = []
    for name in names:
        file.rule(name=name, description=name, channels=["mail"])
    assert (await evaluate(settings)).succeeded
    assert len(mailbox.mails) == len(names)
    headers = {tuple(sent.message.keys()) for sent in mailbox.mails}
    assert len(headers) == 1
    assert len({tuple(tags(sent.part("html"))) for sent in mailbox.mails}) == 1
    for name, sent in zip(names, mailbox.mails, strict=True):
        assert sent.recipients == ["ann@example.com", "bob@example.com"]
        assert str(sent.message["Subject"]).split() == f"[warning] {name}".split()
        assert f"[warning] {name}\n" in sent.part("plain")


def test_what_a_header_is_made_of_has_no_line_break() -> None:
    channel = SmtpChannel(
        "mail", "localhost", 25, Security.NONE, None, None, "a@example.com", ("b@example.com",), 1
    )
    for text in hostile_strings(1000):
        if any(0xD800 <= ord(character) < 0xE000 for character in text):
            continue
        made = mail_module.compose(
            channel,
            channel.recipients,
            subject=f"{text}\r\nBcc: eve@example.com",
            key="key",
            text="",
            html="",
        )
        assert "Bcc" not in made
        assert b"\nBcc" not in made.as_bytes()
