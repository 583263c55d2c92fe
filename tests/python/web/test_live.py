"""Figures as they change: what is pushed is what is read, and nobody waits for anybody."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from web.conftest import ONE_MORE, Serve, add_session, client, shown
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fiml.sessions.lazy_reader import LazyReader
from fiml.settings import Settings
from fiml.warehouse.notices import CHANNEL
from fiml.web.changes import ChangeWatch
from fiml.web.filters import Filters, Subject
from fiml.web.gate import Caller
from fiml.web.hub import Failure, Hub, Subscription
from fiml.web.live import _keep_sending
from fiml.web.service import Views
from fiml.web.views import View

pytestmark = pytest.mark.anyio

PROMISED_SECONDS = 2.0
PATIENCE = 60


@asynccontextmanager
async def looking(
    origin: str, query: str = "", as_of: str | None = None, path: str = "/api/live"
) -> AsyncIterator[ClientConnection]:
    url = origin.replace("http://", "ws://") + path
    async with connect(url, proxy=None) as connection:
        await connection.send(json.dumps({"query": query, "as_of": as_of}))
        yield connection


async def received(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def received_until(connection: ClientConnection, total: int) -> dict[str, Any]:
    while True:
        message = await received(connection)
        if message["stats"]["total_sessions"] == total:
            return message


async def test_a_new_session_is_pushed_within_two_seconds(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as origin, looking(origin) as connection:
        total = (await received(connection))["stats"]["total_sessions"]
        for number in range(1, 6):
            # At another phase of the looks each time.
            await asyncio.sleep(number * 0.23)
            began = monotonic()
            add_session(settings.conninfo)
            message = await received_until(connection, total + number)
            assert monotonic() - began < PROMISED_SECONDS
        names = [asset["symbol"] for asset in message["stats"]["top_assets"]]
        assert "NEWCOMER" in names


@pytest.mark.parametrize(
    "query",
    [
        "days=7",
        "hours=30&type=crypto",
        "days=40&user=analyst_001&timezone=Europe/Athens",
        "days=365",
    ],
)
async def test_what_is_pushed_is_what_is_read_at_the_same_instant(
    settings: Settings, serve: Serve, query: str
) -> None:
    async with (
        serve(settings) as origin,
        client(origin) as http,
        looking(origin, query) as connection,
    ):
        total = (await received(connection))["stats"]["total_sessions"]
        add_session(settings.conninfo)
        message = await received_until(connection, total + 1)
        series = message["timeseries"]
        window = {"since": series["since"], "until": message["as_of"]}
        filters = {
            name: value
            for name, value in (pair.split("=") for pair in query.split("&"))
            if name in {"user", "type"}
        }
        read = shown(await http.get("/api/stats", params={**window, **filters}))
        # Of a window that is over nobody knows who was active then, and it is no number of days.
        left_out = {"active_sessions", "period_days", "since", "until"}
        assert {name: value for name, value in read.items() if name not in left_out} == {
            name: value for name, value in message["stats"].items() if name not in left_out
        }
        again = shown(
            await http.get(
                "/api/timeseries",
                params={
                    **window,
                    **filters,
                    "grain": series["grain"],
                    "timezone": series["timezone"],
                },
            )
        )
        pushed = [
            {name: value for name, value in period.items() if name not in {"is_open", *left_out}}
            for period in series["periods"]
        ]
        assert [
            {name: value for name, value in period.items() if name not in {"is_open", *left_out}}
            for period in again["periods"]
        ] == pushed
        with psycopg.connect(settings.conninfo) as database:
            active = database.execute(
                """
                select count(*) from sessions
                where
                    not is_archived and expires_at > %(as_of)s::timestamptz
                    and (%(user)s::text is null or user_id = %(user)s)
                    and (%(type)s::text is null or type = %(type)s)
                """,
                {
                    "as_of": message["as_of"],
                    "user": filters.get("user"),
                    "type": filters.get("type"),
                },
            ).fetchone()
        assert (message["stats"]["active_sessions"],) == active


async def test_the_parts_of_a_message_are_of_one_instant(settings: Settings, serve: Serve) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(
            settings.conninfo, autocommit=True
        ) as database:
            while not stop.is_set():
                await database.execute(ONE_MORE, ["analyst_001"])

    async with serve(settings) as origin, looking(origin, "days=40") as connection:
        writing = asyncio.create_task(write())
        totals = []
        for _ in range(4):
            message = await received(connection)
            totals.append(message["stats"]["total_sessions"])
            assert totals[-1] == sum(
                period["total_sessions"] for period in message["timeseries"]["periods"]
            )
        stop.set()
        await writing
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


async def test_a_transaction_that_was_open_for_long_is_not_missed(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, looking(origin) as connection:
        total = (await received(connection))["stats"]["total_sessions"]
        with psycopg.connect(settings.conninfo) as slow:
            slow.execute(ONE_MORE, ["analyst_002"])
            for number in (1, 2):
                add_session(settings.conninfo)
                await received_until(connection, total + number)
        # It committed just now, with the oldest number of all.
        await received_until(connection, total + 3)


async def test_a_page_that_comes_back_is_told_what_it_missed_and_nothing_else(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, looking(origin) as watcher:
        total = (await received(watcher))["stats"]["total_sessions"]
        add_session(settings.conninfo)
        # Read after a look: what comes now is a change after it.
        held = await received_until(watcher, total + 1)
        async with looking(origin, as_of=held["as_of"]) as unchanged:
            add_session(settings.conninfo)
            assert (await received(unchanged))["stats"]["total_sessions"] == total + 2
        await received_until(watcher, total + 2)
        async with looking(origin, as_of=held["as_of"]) as behind:
            message = await received(behind)
            assert message["stats"]["total_sessions"] == total + 2
            assert message["as_of"] > held["as_of"]


async def test_a_client_that_reads_nothing_holds_up_nobody(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, looking(origin) as watcher:
        total = (await received(watcher))["stats"]["total_sessions"]
        silent = _silent_client(origin)
        try:
            for number in range(1, 9):
                began = monotonic()
                add_session(settings.conninfo)
                await received_until(watcher, total + number)
                assert monotonic() - began < PROMISED_SECONDS
        finally:
            silent.close()


def _silent_client(origin: str) -> socket.socket:
    """A connection that asks for everything and takes nothing, with the smallest of windows."""
    address = urlsplit(origin)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.connect((address.hostname, address.port))
    connection.sendall(
        b"GET /live HTTP/1.1\r\nHost: " + address.netloc.encode() + b"\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        # {"query":"days=365"}, masked with zeros
        b"\x81\x94\0\0\0\0" + b'{"query":"days=365"}'
    )
    return connection


async def test_who_takes_nothing_for_too_long_is_let_go() -> None:
    class Silent:
        async def send_text(self, _text: str) -> None:
            await asyncio.Event().wait()

        async def receive(self) -> Message:
            await asyncio.Event().wait()
            raise AssertionError

    subscription = Subscription(None)
    subscription.put(Failure("gone"))
    with pytest.raises(WebSocketDisconnect):
        await _keep_sending(
            Silent(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            Caller(None),
            Filters.of([]),
            subscription,
            lambda _view, _filters: {},
            0.01,
        )


async def test_of_what_is_not_fetched_the_latest_stays() -> None:
    views = [_view(number) for number in range(1, 5)]
    subscription = Subscription(None)
    for view in views[:3]:
        subscription.put(view)
    assert await subscription.next() is views[2]
    # What is no newer is nothing new.
    subscription.put(views[1])
    subscription.put(Failure("gone"))
    found = await subscription.next()
    assert isinstance(found, Failure)
    subscription.put(views[3])
    assert await subscription.next() is views[3]


def _view(second: int) -> View:
    subject = Filters.of([]).subject
    at = datetime.fromisoformat(f"2026-03-01T12:00:{second:02}+00:00")
    return View(subject, at, at, at, "day", {}, {}, {}, {}, [], 0)  # type: ignore[arg-type]


async def test_views_of_one_subject_are_read_once_for_everybody(settings: Settings) -> None:
    reader = LazyReader(settings)
    views = Views(reader)
    read: list[Subject] = []

    async def counted(subject: Subject) -> View:
        read.append(subject)
        return await views.read(subject)

    hub = Hub(counted, lambda on_change: ChangeWatch(settings, on_change))
    subject = Filters.of([("days", "7")]).subject
    running = asyncio.create_task(hub.run())
    try:
        async with asyncio.timeout(PATIENCE):
            with (
                hub.subscribed(subject, None) as first,
                hub.subscribed(Filters.of([("days", "7")]).subject, None) as second,
            ):
                assert await first.next() is await second.next()
                # The watch begins, and says once that anything may have changed.
                assert await first.next() is await second.next()
                before = len(read)
                add_session(settings.conninfo)
                found = await first.next()
                assert found is await second.next()
                assert isinstance(found, View)
                assert len(read) == before + 1
                # Who comes now is given what the others have.
                with hub.subscribed(Filters.of([("days", "7")]).subject, None) as third:
                    assert await third.next() is found
                assert len(read) == before + 1
            assert hub.subscribers == 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await reader.close()


async def test_one_view_does_not_wait_for_the_many_of_somebody_else(settings: Settings) -> None:
    reader = LazyReader(settings)
    views = Views(reader)
    order: list[str | None] = []
    of_whom: dict[Subject, str] = {}

    async def noted(subject: Subject) -> View:
        order.append(of_whom[subject])
        return await views.read(subject)

    hub = Hub(noted, lambda on_change: ChangeWatch(settings, on_change))
    with ExitStack() as open_views:
        for days in range(1, 22):
            subject = Filters.of([("days", str(days))]).subject
            of_whom[subject] = "modest" if days == 21 else "greedy"
            last = open_views.enter_context(hub.subscribed(subject, None, of_whom[subject]))
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await last.next(), View)
    await reader.close()
    # The first two had begun before anybody else was there.
    assert order[:3] == ["greedy", "greedy", "modest"]


@pytest.mark.parametrize("is_told", [True, False], ids=["with a notification", "without"])
async def test_changes_are_noticed_with_a_notification_and_without(
    settings: Settings, *, is_told: bool
) -> None:
    changes: asyncio.Queue[float] = asyncio.Queue()
    watch = ChangeWatch(
        settings,
        lambda: changes.put_nowait(monotonic()),
        every_seconds=PATIENCE if is_told else 0.2,
    )
    watch.want(wanted=True)
    running = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(PATIENCE / 2):
            await changes.get()
            add_session(settings.conninfo)
            if is_told:
                with psycopg.connect(settings.conninfo, autocommit=True) as database:
                    database.execute("select pg_notify(%s, '')", [CHANNEL])
            await changes.get()
        # Looked at again and again, one change is one.
        add_session(settings.conninfo)
        if not is_told:
            async with asyncio.timeout(PATIENCE / 2):
                await changes.get()
        assert changes.empty()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_after_the_database_was_away_pages_are_told_what_changed(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(settings) as origin, looking(origin) as connection:
        total = (await received(connection))["stats"]["total_sessions"]
        with psycopg.connect(settings.conninfo, autocommit=True) as database:
            database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        add_session(settings.conninfo)
        await received_until(connection, total + 1)
    told = [record.message for record in caplog.records if record.name == "fiml.web.changes"]
    assert len([line for line in told if line.startswith("live updates pause")]) <= 1


async def test_who_cannot_be_answered_is_told_so_and_stays(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, looking(origin) as connection:
        await received(connection)
        # What it changes waits for views under way, which go on in this loop.
        async with await psycopg.AsyncConnection.connect(
            settings.conninfo, autocommit=True
        ) as database:
            # It is seen as a change, and cannot be read.
            await database.execute("alter table session_metrics rename to elsewhere")
            await database.execute(
                "alter function analytics.read_window rename to read_window_elsewhere"
            )
            await database.execute(
                "alter function analytics.read_periods rename to read_periods_elsewhere"
            )
            await database.execute("alter table marts.daily_session_stats rename to elsewhere")
            await database.execute(
                "insert into sessions (id, type) values (gen_random_uuid(), 'equity')"
            )
            # A view may have been read between two of these.
            message = await received(connection)
            while "failure" not in message:
                message = await received(connection)
            assert message["failure"].startswith("The session database is not prepared for this")
            await database.execute("alter table marts.elsewhere rename to daily_session_stats")
            await database.execute("alter table elsewhere rename to session_metrics")
            add_session(settings.conninfo)
            while "failure" in message:
                message = await received(connection)
        assert message["stats"]["total_sessions"] > 0


LATER = '{"as_of": "9999-01-01T00:00:00+00:00"}'


@pytest.mark.parametrize(
    "first",
    ["", "[]", "{", '{"query": 7}', '{"as_of": "now"}', '{"as_of": "2026-01-01"}', LATER, b"\0"],
)
async def test_a_first_message_that_is_none_is_refused(
    settings: Settings, serve: Serve, first: str | bytes
) -> None:
    async with serve(settings) as origin:
        url = origin.replace("http://", "ws://") + "/live"
        async with connect(url, proxy=None) as connection:
            await connection.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(PATIENCE):
                    await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert closed.value.rcvd.reason.startswith("the first message is not as expected")


async def test_a_view_that_is_none_is_refused_in_the_words_of_the_library(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as origin, looking(origin, "days=0") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(PATIENCE):
                await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "days is 0; expected an integer from 1 to 3650."


async def test_a_reader_s_login_is_enough(settings: Settings, serve: Serve) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as database:
        role = database.execute(
            "select role_name from analytics.roles where purpose = 'reader'"
        ).fetchone()
        assert role is not None
        database.execute(f"alter role {role[0]} login password 'reading'")
        reading = replace(
            settings,
            conninfo=make_conninfo(settings.conninfo, user=role[0], password="reading"),
        )
    async with serve(reading) as origin, looking(origin) as connection, client(origin) as http:
        total = (await received(connection))["stats"]["total_sessions"]
        add_session(settings.conninfo)
        await received_until(connection, total + 1)
        assert (await http.get("/")).status_code == 200
