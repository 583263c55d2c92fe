"""`session-analytics serve` as somebody who runs it meets it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import create_connection, create_server
from time import monotonic
from urllib.parse import urlsplit

import httpx2
import pytest
from click.testing import CliRunner, Result
from identity.issuer import AUDIENCE, Issuer
from web.conftest import add_session
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fiml.cli import main
from fiml.settings import SETTINGS

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"
SECONDS_TO_STOP = 8


def run(*arguments: str, **environment: str) -> Result:
    auth = {setting.name: None for setting in SETTINGS if "_AUTH_" in setting.name}
    return CliRunner().invoke(
        main,
        ["serve", "--no-fold", *arguments],
        env={**auth, "DATABASE_URL": NOWHERE, **environment},
    )


def told(result: Result, exit_code: int) -> str:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def test_it_does_not_start_before_it_can_tell_who_is_asking() -> None:
    reason = told(run("--port", "0"), 1)
    assert reason.startswith("over HTTP callers must prove who they are: set ")
    assert "--insecure-local" in reason


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])  # noqa: S104
def test_insecure_is_local(host: str) -> None:
    assert "only this machine may connect" in told(run("--insecure-local", "--host", host), 2)


def test_insecure_does_not_quietly_ignore_keys() -> None:
    reason = told(
        run(
            "--insecure-local",
            SESSION_ANALYTICS_AUTH_SECRET="s" * 32,
            SESSION_ANALYTICS_AUTH_AUDIENCE="a",
        ),
        1,
    )
    assert reason.startswith("keys of tokens are set, and --insecure-local would ignore them")


def test_sample_sessions_are_written_into_no_other_database() -> None:
    reason = told(run("--insecure-local", "--demo-traffic", "--port", "0"), 1)
    assert reason.startswith("sample sessions are written into the database session_analytics_demo")


def test_a_port_that_is_taken_is_told_with_the_way_out() -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = told(run("--insecure-local", "--port", str(port)), 1)
    assert reason == (
        f"cannot listen on 127.0.0.1 port {port}: another process listens there; choose another "
        "port with --port, where 0 takes a free one"
    )


def test_an_address_of_another_machine_is_told() -> None:
    reason = told(
        run(
            *("--host", "192.0.2.1", "--port", "0"),
            SESSION_ANALYTICS_AUTH_SECRET="s" * 32,
            SESSION_ANALYTICS_AUTH_AUDIENCE="a",
        ),
        1,
    )
    assert reason == "cannot listen on 192.0.2.1 port 0: Cannot assign requested address"


@pytest.mark.parametrize("package", ["jinja2", "markupsafe", "uvicorn", "websockets"])
def test_a_package_that_is_missing_is_told_before_it_serves(package: str) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; from fiml.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", without, *("serve", "--no-fold", "--insecure-local", "--port", "0")],
        env={**os.environ, "DATABASE_URL": NOWHERE},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"Error: this command needs {package}: pip install 'session-analytics[web]'\n"
    )


def test_nothing_secret_is_an_argument_which_every_process_can_read() -> None:
    options = {name for parameter in main.commands["serve"].params for name in parameter.opts}
    assert options == {
        "--host",
        "--port",
        "--insecure-local",
        "--metrics",
        "--no-fold",
        "--demo-traffic",
    }


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [COMMAND, "serve", "--no-fold", "--port", "0", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("Serving the page on http://127.0.0.1:"), line
            yield process, line.split()[4].removesuffix(";")
        finally:
            process.kill()


async def code_of_the_end(socket: ClientConnection) -> int | None:
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
async def test_a_signal_ends_it_within_seconds_whoever_is_connected(
    conninfo: str, number: signal.Signals, exit_code: int
) -> None:
    with started("--insecure-local", DATABASE_URL=conninfo) as (process, origin):
        url = origin.replace("http://", "ws://") + "/live"
        sockets = [await connect(url, proxy=None) for _ in range(5)]
        for socket in sockets[:4]:
            await socket.send("{}")
            assert "html" in json.loads(await socket.recv())
        async with httpx2.AsyncClient(timeout=60) as http:
            assert (await http.get(origin)).status_code == 200
            began = monotonic()
            process.send_signal(number)
            for socket in sockets:
                # Going away, and may come back.
                assert await code_of_the_end(socket) == 1012
            code = await asyncio.to_thread(process.wait, SECONDS_TO_STOP)
        assert monotonic() - began < SECONDS_TO_STOP
        assert code == exit_code
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_while_a_request_waits_ends_in_no_traceback(
    number: signal.Signals, exit_code: int
) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(create_server(("127.0.0.1", 0)))
        silent.settimeout(60)
        process, origin = stack.enter_context(
            started(
                "--insecure-local",
                DATABASE_URL=f"postgresql://a@127.0.0.1:{silent.getsockname()[1]}/nothing",
                SESSION_ANALYTICS_TIMEOUT_SECONDS="4",
            )
        )
        assert process.stderr is not None
        # It has come to its end with trying to connect, and answers from now on.
        stack.enter_context(silent.accept()[0])
        assert "started without the database" in process.stderr.readline()
        address = urlsplit(origin)
        with create_connection((str(address.hostname), address.port or 0)) as client:
            client.sendall(b"GET /api/stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            # The request is under way: it has asked the database.
            stack.enter_context(silent.accept()[0])
            process.send_signal(number)
            assert process.wait(SECONDS_TO_STOP) == exit_code
        (line,) = process.stderr.read().splitlines()
        assert line.endswith(
            "fiml.network.listening: requests that did not end within 2 s of the signal were "
            "cancelled: 1"
        )


@pytest.mark.anyio
async def test_with_a_secret_it_serves_own_figures_and_its_log_names_nobody(
    issuer: Issuer, conninfo: str, tmp_path: Path
) -> None:
    token = issuer.signed(issuer.claims("analyst_001"), "HS256")
    with started(
        DATABASE_URL=conninfo,
        SESSION_ANALYTICS_AUTH_AUDIENCE=AUDIENCE,
        SESSION_ANALYTICS_AUTH_SECRET_FILE=str(issuer.write_secret(tmp_path)),
    ) as (process, origin):
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            answer = (await http.get(f"{origin}/api/stats?days=7")).json()
            assert answer["user_id"] == "analyst_001"
            assert (await http.get(f"{origin}/?user=analyst_002")).status_code == 403
        url = origin.replace("http://", "ws://") + "/api/live"
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.send(json.dumps({"query": "user=analyst_001"}))
            total = json.loads(await socket.recv())["stats"]["total_sessions"]
            add_session(conninfo)
            while json.loads(await socket.recv())["stats"]["total_sessions"] == total:
                pass
        process.terminate()
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=60)
    assert stdout == ""
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert [line["outcome"] for line in lines] == ["answered", "refused", "answered"]
    for text in ("analyst_", *token.split(".")):
        assert text not in stderr


@pytest.mark.anyio
@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
async def test_a_request_without_end_is_not_kept(head: bytes) -> None:
    with started("--insecure-local", DATABASE_URL=NOWHERE) as (_, origin):
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(origin).port)
        writer.write(head)

        async def go_on() -> None:
            # Half a gigabyte, were it taken.
            for _ in range(50_000):
                writer.write(b"a" * 10_000)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await go_on()
        writer.close()
