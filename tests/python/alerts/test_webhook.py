"""Webhooks, against a server: what is posted, how it is signed, and what counts as delivered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alerts.world import Connection, File, Receiver, add_sessions, receiving
from hostile.strings import hostile_strings

from fiml.alerts.channels.webhook import signature
from fiml.alerts.evaluation import evaluate
from fiml.errors import DeliveryError
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

SECRET = "a secret of the tests, long enough"


@pytest.fixture
def hook(database: Connection, file: File) -> Callable[..., None]:
    """`hook(url, ...)` is where the one rule tells that it fired."""

    def write(url: str | None, **channel: Any) -> None:
        given = {"kind": "webhook", "url": url, **channel}
        file.channels["hook"] = {key: value for key, value in given.items() if value is not None}
        file.rule(channels=["hook"])

    add_sessions(database, 10, abandoned=True)
    return write


async def test_it_posts_json_that_programs_and_chat_services_read(
    settings: Settings, hook: Callable[..., None], receiver: Receiver, file: File
) -> None:
    hook(receiver.url)
    file.rule(channels=["hook"], description="Look at the start page.", session_type="equity")
    assert (await evaluate(settings)).succeeded
    [request] = receiver.requests
    assert (request.path, request.headers["Content-Type"]) == ("/hook", "application/json")
    document = request.document
    episode = document.pop("episode_id")
    fired_at = document.pop("fired_at")
    assert fired_at.endswith("+00:00")
    message = (
        "abandonment_rate is 1, above 0.3, over the last 1 day, equity sessions (10 sessions)."
    )
    assert document == {
        "event": "fired",
        "rule": "High abandonment",
        "description": "Look at the start page.",
        "severity": "warning",
        "figure": "abandonment_rate",
        "comparison": "above",
        "threshold": 0.3,
        "window_hours": 24,
        "session_type": "equity",
        "user_key": None,
        "value": 1,
        "sessions": 10,
        "over_at": None,
        "ending": None,
        "message": message,
        "text": f"[warning] High abandonment: {message}",
    }
    key = f"{episode}.fired"
    assert (request.headers["Idempotency-Key"], request.headers["Webhook-Id"]) == (key, key)
    assert "Webhook-Signature" not in request.headers


@pytest.mark.parametrize("prefixed", [False, True], ids=["text", "whsec_"])
@pytest.mark.parametrize("kept_in", ["variable", "file"])
async def test_it_is_signed_with_the_secret_as_it_is_now(
    settings: Settings,
    hook: Callable[..., None],
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept_in: str,
    *,
    prefixed: bool,
) -> None:
    kept = f"whsec_{base64.b64encode(SECRET.encode()).decode()}" if prefixed else SECRET
    if kept_in == "file":
        (tmp_path / "secret").write_text(f"{kept}\n")
        (tmp_path / "secret").chmod(0o600)
        hook(receiver.url, secret_file="secret")
    else:
        monkeypatch.setenv("HOOK_SECRET", kept)
        hook(receiver.url, secret_variable="HOOK_SECRET")
    assert (await evaluate(settings)).succeeded
    [request] = receiver.requests
    timestamp = request.headers["Webhook-Timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    signed = f"{request.headers['Webhook-Id']}.{timestamp}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
    assert request.headers["Webhook-Signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_the_standards_example() -> None:
    # From the specification's own test vector.
    assert (
        signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("short", 0o600, "the secret has 5 bytes; expected at least 24"),
        ("whsec_?", 0o600, "the secret begins with whsec_ and is no base64"),
        (SECRET, 0o644, "alert file: others may read or write"),
        ("", 0o600, "holds nothing"),
        (None, 0o600, "alert file: cannot read"),
    ],
)
async def test_a_secret_that_cannot_be_used_delivers_nothing(
    settings: Settings,
    hook: Callable[..., None],
    receiver: Receiver,
    tmp_path: Path,
    content: str | None,
    mode: int,
    problem: str,
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
        (tmp_path / "secret").chmod(mode)
    hook(receiver.url, secret_file="secret")
    failed = await evaluate(settings)
    assert problem in failed.undelivered["hook"]
    assert content in {None, ""} or content not in failed.undelivered["hook"]
    assert receiver.requests == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_an_answer_of_success_is_a_delivery(
    settings: Settings, hook: Callable[..., None], receiver: Receiver, status: int
) -> None:
    receiver.status = status
    hook(receiver.url)
    assert (await evaluate(settings)).succeeded


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
async def test_any_other_answer_is_none(
    settings: Settings, hook: Callable[..., None], receiver: Receiver, status: int
) -> None:
    receiver.status = status
    hook(receiver.url)
    assert (await evaluate(settings)).undelivered == {"hook": f"answered {status}"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    settings: Settings, hook: Callable[..., None], receiver: Receiver, status: int
) -> None:
    with receiving() as elsewhere:
        receiver.status = status
        receiver.headers = {"Location": elsewhere.url}
        hook(receiver.url)
        problem = f"answered {status}: redirects are not followed"
        assert (await evaluate(settings)).undelivered == {"hook": problem}
        assert elsewhere.requests == []


async def test_an_address_that_is_secret_stands_nowhere(
    database: Connection,
    settings: Settings,
    hook: Callable[..., None],
    receiver: Receiver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = tmp_path / "address"
    address.write_text(f"{receiver.url}/zz-token")
    address.chmod(0o600)
    hook(None, url_file="address")
    receiver.status = 500
    with caplog.at_level(logging.DEBUG, logger="fiml"):
        failed = await evaluate(settings)
    assert receiver.requests[0].path == "/hook/zz-token"
    address.write_text("ftp://zz-token")
    database.execute("update analytics.notices set next_attempt_at = now()")
    refused = await evaluate(settings)
    assert "no address" in refused.undelivered["hook"]
    kept = database.execute("select * from analytics.notices").fetchall()
    assert "zz-token" not in repr([failed, refused, kept]) + caplog.text


@pytest.fixture
def silent() -> Iterator[tuple[int, Callable[[bytes], None]]]:
    """A port that takes connections, and sends what it is given a byte at a time, for ever."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    content = [b""]

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                for byte in content[0]:
                    connection.sendall(bytes([byte]))
                over.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1], lambda given: content.__setitem__(0, given)
    over.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: "])
async def test_a_server_that_says_too_little_is_left_at_the_deadline(
    settings: Settings,
    hook: Callable[..., None],
    silent: tuple[int, Callable[[bytes], None]],
    begin: bytes,
) -> None:
    port, say = silent
    say(begin)
    hook(f"http://127.0.0.1:{port}/", timeout_seconds=1)
    began = time.monotonic()
    assert (await evaluate(settings)).undelivered == {"hook": "no answer within 1 s"}
    assert time.monotonic() - began < 15


async def test_an_answer_without_an_end_is_not_read(
    settings: Settings,
    hook: Callable[..., None],
    silent: tuple[int, Callable[[bytes], None]],
) -> None:
    port, say = silent
    say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nbegin")
    hook(f"http://127.0.0.1:{port}/")
    assert (await evaluate(settings)).succeeded


async def test_a_server_that_is_not_there_and_one_that_speaks_no_http(
    settings: Settings,
    hook: Callable[..., None],
    silent: tuple[int, Callable[[bytes], None]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hook(f"http://127.0.0.1:{port}/")
    problem = "the server cannot be reached, or not be trusted"
    assert (await evaluate(settings)).undelivered == {"hook": problem}
    port, say = silent
    say(b"220 mail.example.com ESMTP\r\n\r\n")
    hook(f"http://127.0.0.1:{port}/")
    assert "the exchange failed" in (await evaluate(settings)).undelivered["hook"]


async def test_names_that_mean_something_to_somebody_are_only_names(
    settings: Settings, hook: Callable[..., None], receiver: Receiver, file: File
) -> None:
    names = [
        text
        for text in hostile_strings(300)
        if 0 < len(text) <= 100 and text.isprintable() and text == text.strip()
    ]
    assert len(names) > 100
    hook(receiver.url)
    file.rules = []
    for name in names:
        file.rule(name=name, description=name, channels=["hook"])
    assert (await evaluate(settings)).succeeded
    assert [request.document["rule"] for request in receiver.requests] == names
    for request in receiver.requests:
        assert request.body.isascii()
        assert b"\n" not in request.body
        json.loads(request.body)


def test_a_secret_is_refused_without_repeating_it() -> None:
    with pytest.raises(DeliveryError) as refusal:
        signature("zz-short", "key", "0", b"{}")
    assert "zz-short" not in str(refusal.value)
