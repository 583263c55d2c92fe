"""An application with sessions, an alert file, and servers that take what is sent."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Connection = psycopg.Connection[tuple[Any, ...]]

RULE: dict[str, Any] = {
    "name": "High abandonment",
    "figure": "abandonment_rate",
    "comparison": "above",
    "threshold": 0.3,
    "days": 1,
}


def add_sessions(
    database: Connection,
    count: int,
    *,
    abandoned: bool = False,
    queries: int = 3,
    hours_ago: float = 1,
    user: str | None = "ann",
    kind: str = "equity",
    names: tuple[str, ...] = ("AAPL",),
) -> None:
    """Record the metrics of sessions."""
    database.execute(
        """
        insert into session_metrics (
            session_id, user_id, session_type, created_at, duration_seconds, total_queries,
            assets_analyzed, query_type_summary, tags, abandoned, completed_normally
        )
        select
            gen_random_uuid(), %(user)s, %(kind)s, now() - %(hours_ago)s * interval '1 hour', 60,
            %(queries)s, %(names)s::jsonb, %(query_types)s::jsonb, %(names)s::jsonb,
            %(abandoned)s, not %(abandoned)s
        from generate_series(1, %(count)s)
        """,
        {
            "count": count,
            "user": user,
            "kind": kind,
            "hours_ago": hours_ago,
            "queries": queries,
            "names": json.dumps(names),
            "query_types": json.dumps(dict.fromkeys(names, 1)),
            "abandoned": abandoned,
        },
    )


class File:
    """An alert file that a test changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[str, dict[str, Any]] = {}
        self.rules: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.write()

    def write(self) -> None:
        # JSON is YAML.
        self.path.write_text(
            json.dumps(
                {"channels": self.channels, "rules": self.rules, "reports": self.reports},
                ensure_ascii=False,
            ),
            encoding="utf-8",
        )
        self.path.chmod(0o600)

    def rule(self, **changes: Any) -> None:
        """Add a rule, or put it in the place of the one of the same name."""
        rule = {**RULE, **changes}
        rule = {key: value for key, value in rule.items() if value is not None}
        self.rules = [other for other in self.rules if other["name"] != rule["name"]] + [rule]
        self.write()


@dataclass
class Request:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server that remembers what was posted, and answers as it is told."""

    url: str
    requests: list[Request] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    # Called before the answer, in the thread of the request.
    on_request: Callable[[], None] = lambda: None

    @property
    def events(self) -> list[str]:
        return [request.document["event"] for request in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(Request(self.path, dict(self.headers), body))
            receiver.on_request()
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mail:
    sender: str
    recipients: list[str]
    content: bytes
    user: str | None

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=default)
        assert isinstance(message, EmailMessage)
        return message

    def part(self, kind: str) -> str:
        body = self.message.get_body((kind,))
        assert body is not None
        content = body.get_content()
        assert isinstance(content, str)
        return content.replace("\r\n", "\n")


@dataclass
class Mailbox:
    """A mail server that keeps what it takes."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    # In the place of taking a mail.
    answer: str | None = None

    async def handle_DATA(  # noqa: N802 - the library's name
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.answer is not None:
            return self.answer
        assert isinstance(envelope.content, bytes)
        user = session.auth_data.decode() if session.authenticated else None
        self.mails.append(
            Mail(str(envelope.mail_from), list(envelope.rcpt_tos), envelope.content, user)
        )
        return "250 taken"


class MailServer(Controller):
    """On a port that the system chooses."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mailing(
    context: ssl.SSLContext | None = None,
    passwords: Mapping[str, str] | None = None,
    *,
    is_encrypted: bool = False,
) -> Iterator[Mailbox]:
    """A mail server, which asks for STARTTLS and a login where it is given what they need.

    It is encrypted from the begin where that is asked for, and then does not ask for STARTTLS.
    """

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        assert passwords is not None
        assert isinstance(data, LoginPassword)
        if mechanism not in {"LOGIN", "PLAIN"}:
            return AuthResult(success=False, handled=False)
        is_right = passwords.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=is_right, handled=is_right, auth_data=data.login)

    mailbox = Mailbox()
    controller = MailServer(
        mailbox,
        hostname="127.0.0.1",
        port=0,
        ssl_context=context if is_encrypted else None,
        tls_context=None if is_encrypted else context,
        require_starttls=context is not None and not is_encrypted,
        authenticator=authenticate if passwords is not None else None,
        auth_required=passwords is not None,
    )
    controller.start()
    try:
        mailbox.port = controller.port
        yield mailbox
    finally:
        controller.stop()


class _Drip:
    """A mail server for one connection after another."""

    def __init__(self, after: str | None) -> None:
        self.after = after
        self.ended = threading.Event()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]

    def serve(self) -> None:
        while True:
            connection, _ = self.server.accept()
            with connection:
                if self.ended.is_set():
                    return
                with suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        if self.after is None:
            self._drip(connection, "220")
        connection.sendall(b"220 hello\r\n")
        is_content = False
        for line in connection.makefile("rb"):
            if is_content and line != b".\r\n":
                continue
            command = "DATA" if is_content else line[:4].decode().strip().upper()
            is_begin = command == "DATA" and not is_content
            is_content = is_begin
            if command == self.after and not is_begin:
                self._drip(connection, "250")
            connection.sendall(b"354 go on\r\n" if is_begin else b"250 well\r\n")

    def _drip(self, connection: socket.socket, code: str) -> None:
        while not self.ended.wait(0.1):
            connection.sendall(f"{code}-hello\r\n".encode())


@contextmanager
def dripping(*, after: str | None = None) -> Iterator[int]:
    """The port of a mail server that goes on talking, from the begin or after a command.

    `after` is "DATA", where the mail is to be taken, or "QUIT", when it was taken.
    """
    drip = _Drip(after)
    thread = threading.Thread(target=drip.serve)
    thread.start()
    try:
        yield drip.port
    finally:
        drip.ended.set()
        socket.create_connection(("127.0.0.1", drip.port)).close()
        thread.join()
        drip.server.close()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


def tags(html: str) -> list[str]:
    """The tags that open in a page, in order."""
    parser = _Tags()
    parser.feed(html)
    return parser.found
