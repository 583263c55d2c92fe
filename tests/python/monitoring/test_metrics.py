"""Metrics, scraped over HTTP and parsed as Prometheus does, beside their database."""

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from http.client import HTTPConnection
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from monitoring.conftest import Connection, samples, scraped
from prometheus_client.parser import text_string_to_metric_families
from warehouse.application import leave_expired_sessions, record_metrics

from fiml.database import Database
from fiml.errors import InvalidArgumentError, PoolExhaustedError
from fiml.monitoring import endpoint, state
from fiml.monitoring.catalogue import METRICS, STATE
from fiml.monitoring.endpoint import serving_metrics
from fiml.monitoring.reads import FAILURES, Operation, Path
from fiml.monitoring.state import DatabaseWatch
from fiml.network.names import is_own_name
from fiml.sessions.analytics import SessionAnalytics
from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

LATENCY = "session_analytics_read_duration_seconds_count"
FAILED = "session_analytics_read_failures_total"
OPENED_NOW = """
insert into sessions (id, type, created_at, expires_at)
select gen_random_uuid(), 'equity', now(), now() + interval '1 day' from generate_series(1, %s)
"""


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_SECONDS_KNOWN", 0.0)


def fold_all(settings: Settings, database: Connection) -> None:
    fold(database, load_marts(settings), f"fold {uuid4()}")


def test_every_metric_is_exposed_as_it_is_described(
    settings: Settings, database: Connection, metrics: str
) -> None:
    record_metrics(database, 10)
    fold_all(settings, database)
    database.execute("select analytics.open_window('a build')")
    database.execute("select analytics.end_build('a build', true)")

    async def read_and_scrape() -> str:
        await find_the_pool_exhausted(settings)
        async with Database(settings) as reader:
            await SessionAnalytics(reader).get_session_stats()
            return await asyncio.to_thread(scraped, metrics)

    text = asyncio.run(read_and_scrape())
    families = {
        family.name: family
        for family in text_string_to_metric_families(text)
        if family.name.startswith("session_analytics_")
    }
    described = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    exposed = {name.removesuffix("_created") for name in families}
    assert exposed == set(described)
    for name, metric in described.items():
        family = families[name]
        assert family.documentation == metric.help
        assert family.type == ("gauge" if metric.kind == "info" else metric.kind)
        assert family.samples
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels), name
    assert "process_resident_memory_bytes" in text


@asynccontextmanager
async def holding_a_connection(reader: Database) -> AsyncIterator[None]:
    is_held, may_end = asyncio.Event(), asyncio.Event()

    async def hold(_connection: object) -> None:
        is_held.set()
        await may_end.wait()

    holding = asyncio.create_task(reader.run(hold))
    await is_held.wait()
    yield
    may_end.set()
    await holding


async def find_the_pool_exhausted(settings: Settings) -> None:
    async with (
        Database(replace(settings, pool_size=1)) as reader,
        holding_a_connection(reader),
    ):
        # A twentieth of it is between the pool's own limit and that of the call.
        reader.settings = replace(reader.settings, timeout_seconds=2)
        with pytest.raises(PoolExhaustedError):
            await SessionAnalytics(reader).get_session_stats()


def test_figures_of_the_database_are_those_that_it_has(
    settings: Settings, database: Connection, metrics: str
) -> None:
    found = samples(scraped(metrics))
    assert found["session_analytics_database_up",] == 1
    assert found["session_analytics_mart_usable", "session_totals"] == 0
    # Nothing is told that is not known.
    assert ("session_analytics_sessions_active",) not in found
    assert ("session_analytics_build_successful",) not in found

    record_metrics(database, 20)
    leave_expired_sessions(database, 5)
    database.execute("select * from analytics.archive_expired_sessions(2)")
    database.execute(OPENED_NOW, [4])
    database.execute(
        "insert into analytics.quarantine (fact, reason) values ('archival', 'a reason')"
    )
    fold_all(settings, database)
    # What is folded and what is not add up.
    database.execute("select * from analytics.archive_expired_sessions(1)")
    database.execute(OPENED_NOW, [3])
    unfolded = database.execute(
        """
        select count(*)
        from analytics.session_changes
        inner join analytics.mart_states on mart_states.mart = 'session_totals'
        where analytics.is_unseen(session_changes.xid, mart_states.watermark)
        """
    ).fetchone()
    found = samples(scraped(metrics))
    assert found["session_analytics_sessions_active",] == 7
    assert found["session_analytics_sessions_expired",] == 2
    assert found["session_analytics_sessions_archived",] == 3
    assert found["session_analytics_quarantined_rows", "archival"] == 1
    assert found["session_analytics_quarantined_rows", "metrics"] == 0
    for mart in load_marts(settings):
        assert found["session_analytics_mart_usable", mart.name] == 1
        assert (found["session_analytics_feed_unfolded_rows", mart.name],) == unfolded
        assert found["session_analytics_fold_duration_seconds", mart.name] > 0
        assert found["session_analytics_watermark_age_seconds", mart.name] > 0


def test_a_change_that_is_not_folded_lags_more_and_more_until_it_is(
    settings: Settings, database: Connection, metrics: str
) -> None:
    lag = "session_analytics_feed_lag_seconds", "session_totals"
    fold_all(settings, database)
    database.execute("update analytics.build_windows set opened_at = opened_at - interval '1 hour'")
    assert samples(scraped(metrics))[lag] == 0
    record_metrics(database, 1)
    first = samples(scraped(metrics))[lag]
    # Since the scrape that found none, and not since the snapshot an hour ago.
    assert 0 < first < 3600
    assert samples(scraped(metrics))[lag] > first
    fold_all(settings, database)
    assert samples(scraped(metrics))[lag] == 0


def test_the_last_build_that_ended_is_told(database: Connection, metrics: str) -> None:
    database.execute("select analytics.open_window('failing')")
    database.execute("select analytics.end_build('failing', false)")
    assert samples(scraped(metrics))["session_analytics_build_successful",] == 0
    database.execute("select analytics.open_window('right')")
    database.execute("select analytics.end_build('right', true)")
    # It failed before it began.
    database.execute("select analytics.end_build('without a window', false)")
    found = samples(scraped(metrics))
    assert found["session_analytics_build_successful",] == 1
    assert found["session_analytics_build_duration_seconds",] > 0
    assert found["session_analytics_build_age_seconds",] >= 0


@pytest.mark.anyio
async def test_reads_are_told_by_what_was_asked_and_what_answered(
    settings: Settings, database: Connection, metrics: str
) -> None:
    record_metrics(database, 20)
    fold_all(settings, database)

    async def counted() -> dict[tuple[str, ...], float]:
        return samples(await asyncio.to_thread(scraped, metrics))

    async with Database(settings) as reader:
        analytics = SessionAnalytics(reader)
        asked: list[tuple[Operation, Path, Callable[[], Awaitable[object]]]] = [
            (Operation.STATS, Path.SERVING, analytics.get_session_stats),
            (Operation.STATS, Path.SOURCE, lambda: analytics.get_session_stats("user 1")),
            (Operation.TIMESERIES, Path.SERVING, analytics.get_session_timeseries),
            (
                Operation.TIMESERIES,
                Path.SOURCE,
                lambda: analytics.get_session_timeseries("user 1", days=2),
            ),
            (Operation.EXPORT_JSON, Path.SERVING, analytics.export_session_metrics),
            (Operation.EXPORT_CSV, Path.SOURCE, lambda: analytics.export_session_metrics("csv")),
            (Operation.EXPORT_XLSX, Path.SERVING, lambda: analytics.export_session_metrics("xlsx")),
            (Operation.REPORT, Path.SERVING, analytics.get_session_report),
        ]
        for operation, path, ask in asked:
            before = (await counted()).get((LATENCY, operation, path), 0)
            answer = await ask()
            if isinstance(answer, dict) and "meta" in answer:
                assert answer["meta"]["path"] == path
            assert (await counted())[LATENCY, operation, path] == before + 1, (operation, path)
        for is_built, path in ((True, Path.MARTS), (False, Path.SOURCE)):
            database.execute(
                "update analytics.watermarks set watermark = null "
                "where mart = 'session_totals' or not %s",
                [is_built],
            )
            before = (await counted()).get((LATENCY, Operation.STATS, path), 0)
            await analytics.get_session_stats()
            answer = await analytics.get_session_stats(include_meta=True)
            assert answer["meta"]["path"] == path
            assert (await counted())[LATENCY, Operation.STATS, path] == before + 2


@pytest.mark.anyio
async def test_a_stream_is_told_when_it_ends_and_early_is_no_failure(
    settings: Settings, database: Connection, metrics: str
) -> None:
    record_metrics(database, 5)
    async with Database(settings) as reader:
        stream = SessionAnalytics(reader).stream_session_metrics()
        await anext(stream)
        # Nothing of it is left with who reads between two steps.
        await SessionAnalytics(reader).get_session_stats()
        await stream.aclose()
    found = samples(await asyncio.to_thread(scraped, metrics))
    assert found[LATENCY, "stream", "source"] == 1
    assert not any(key[0] == FAILED for key in found)


@pytest.mark.anyio
async def test_failures_are_told_by_their_kind(settings: Settings, metrics: str) -> None:
    await find_the_pool_exhausted(settings)
    async with Database(settings) as reader:
        with pytest.raises(InvalidArgumentError):
            await SessionAnalytics(reader).get_session_stats(since="1999-01-01")
    found = samples(await asyncio.to_thread(scraped, metrics))
    assert found[FAILED, "pool_exhausted", "stats"] == 1
    assert found[FAILED, "invalid", "stats"] == 1
    assert {key[1] for key in found if key[0] == FAILED} <= set(FAILURES)


@pytest.mark.anyio
async def test_connections_in_use_are_those_that_calls_hold(
    settings: Settings, metrics: str
) -> None:
    async with Database(replace(settings, pool_size=3)) as reader:
        async with holding_a_connection(reader):
            found = samples(await asyncio.to_thread(scraped, metrics))
        # Without the one of the scrape itself.
        assert found["session_analytics_pool_connections_in_use",] == 1
        assert found["session_analytics_pool_connections_max",] == 3
    found = samples(await asyncio.to_thread(scraped, metrics))
    assert ("session_analytics_pool_connections_in_use",) not in found


@pytest.mark.anyio
async def test_nothing_says_whose_the_figures_are(
    settings: Settings, database: Connection, metrics: str
) -> None:
    record_metrics(database, 20)
    async with Database(settings) as reader:
        analytics = SessionAnalytics(reader)
        await analytics.get_session_stats("user 1")
        await analytics.get_session_timeseries("user 2", session_type="crypto")
    text = await asyncio.to_thread(scraped, metrics)
    for word in ("user 1", "user 2", "A1", "tag ", "crypto"):
        assert word not in text


def test_a_database_that_is_not_there_is_down_and_one_that_does_not_answer_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for conninfo in (
            "postgresql://nobody@127.0.0.1:1/nothing",
            f"postgresql://nobody@127.0.0.1:{port}/nothing",
        ):
            urls: list[str] = []
            settings = Settings(conninfo=conninfo, timeout_seconds=0.5)
            with serving_metrics(settings, "127.0.0.1", 0, on_ready=urls.append):
                found = samples(scraped(urls[0]))
            assert found["session_analytics_database_up",] == 0
            assert not {name for name, *_ in found} & {metric.name for metric in STATE}


def test_however_often_it_is_asked_the_database_is_asked_once_in_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_SECONDS_KNOWN", 3600.0)
    watch = DatabaseWatch(settings)
    try:
        first = watch.state()
        assert first is not None
        assert watch.state() is first
    finally:
        watch.close()


def test_only_metrics_are_there(metrics: str) -> None:
    for path in ("/", "/metrics/more", "/favicon.ico"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(metrics.removesuffix("/metrics") + path, timeout=60)  # noqa: S310
    assert scraped(f"{metrics}?name[]=anything")


def status_under(url: str, *hosts: str) -> int:
    address = urlsplit(url)
    with closing(HTTPConnection(str(address.hostname), address.port, timeout=60)) as connection:
        connection.putrequest("GET", address.path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status


def test_a_page_of_another_name_learns_nothing_of_metrics_on_loopback(metrics: str) -> None:
    port = urlsplit(metrics).port
    for host in ("127.0.0.1", "localhost", "LOCALHOST", f"[::1]:{port}", f"127.0.0.1:{port}"):
        assert status_under(metrics, host) == 200, host
    for host in (
        "attacker.example", f"attacker.example:{port}", "192.0.2.1", "[::]", "localhost.a.example",
        "127.0.0.1.a.example", "a@127.0.0.1", "127.0.0.1:1:2", "127.0.0.1:", "[", "[]", ":80", "",
    ):  # fmt: skip
        assert status_under(metrics, host) == 421, host
    assert status_under(metrics) == 421
    assert status_under(metrics, "127.0.0.1", "attacker.example") == 421


def test_elsewhere_metrics_are_asked_for_by_address_or_by_the_name_that_was_given() -> None:
    for host in ("192.0.2.1:9464", "198.51.100.7", "[2001:db8::1]:9464"):
        assert is_own_name(host, "::")
        assert is_own_name(host, "192.0.2.99")
        assert is_own_name(host, "metrics.internal")
    assert is_own_name("Metrics.internal:9464", "metrics.internal")
    for host in ("attacker.example", "metrics.internal", "", "192.0.2.1.attacker.example"):
        assert not is_own_name(host, "::")
        assert not is_own_name(host, "")


def is_let_go(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_connections_that_never_ask_take_few_threads_and_hold_up_no_scrape(
    metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is.
    monkeypatch.setattr(endpoint, "_SECONDS_FOR_A_PLACE", 60.0)
    address = urlsplit(metrics)
    with ExitStack() as stack:
        for _ in range(2):
            connections = [
                stack.enter_context(socket.create_connection((address.hostname, address.port), 60))
                for _ in range(60)
            ]
            for connection in connections:
                # The oldest of them are let go by now.
                with suppress(ConnectionError):
                    connection.sendall(b"GET /met")
            assert scraped(metrics)
            # It was accepted after them.
            for connection in connections[: -endpoint._CONNECTIONS_AT_MOST]:
                assert is_let_go(connection)
    assert scraped(metrics)


def test_a_request_has_a_deadline_however_steadily_it_comes(
    metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_SECONDS_FOR_A_REQUEST", 0.2)
    address = urlsplit(metrics)
    with socket.create_connection((address.hostname, address.port), 0.01) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        is_over = False
        while not is_over:
            try:
                connection.sendall(b"x")
                is_over = is_let_go(connection)
            except TimeoutError:
                continue
            except ConnectionError:
                is_over = True
    monkeypatch.undo()
    assert scraped(metrics)


def test_nobody_counts_after_the_end(settings: Settings) -> None:
    from fiml.monitoring import reads

    with serving_metrics(settings, "127.0.0.1", 0):
        assert reads._listeners
    assert not reads._listeners
