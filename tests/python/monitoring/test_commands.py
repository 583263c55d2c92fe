"""`--metrics` and the log of the commands that run on, as somebody who runs them meets them."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from monitoring.conftest import Connection, samples, scraped
from warehouse.application import record_metrics

from fiml.cli import main
from fiml.errors import InvalidArgumentError
from fiml.monitoring.addresses import Address, parse_address
from fiml.settings import Settings

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"
SECONDS_TO_STOP = 8
WHILE_ANYTHING_IS_NOT_FOLDED = "session_analytics_feed_unfolded_rows", "session_totals"


def test_without_a_host_it_is_loopback() -> None:
    assert parse_address("9464") == Address("127.0.0.1", 9464)
    assert parse_address("0") == Address("127.0.0.1", 0)
    assert parse_address("192.0.2.1:9464") == Address("192.0.2.1", 9464)
    assert parse_address("[::1]:9464") == Address("::1", 9464)


@pytest.mark.parametrize(
    "text", ["", ":9464", "host", "host:", "9464x", "65536", "-1", "1:2:3", "[::1]", "٣", "1" * 99]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^metrics is .* expected PORT, HOST:PORT or "):
        parse_address(text)


@pytest.mark.parametrize(
    "command",
    [["serve", "--insecure-local"], ["mcp"], ["mcp", "--http", "--insecure-local"], ["fold"]],
    ids=" ".join,
)
def test_a_port_that_is_taken_is_told(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(
            main, [*command, "--metrics", port], env={"DATABASE_URL": NOWHERE}
        )
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line == (
        f"Error: cannot listen for metrics on 127.0.0.1 port {port}: another process listens "
        "there; choose another port with --metrics, where 0 takes a free one"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("SESSION_ANALYTICS_LOG_FORMAT", "xml"), ("SESSION_ANALYTICS_TRACES", "console")],
)
def test_a_setting_that_is_none_of_the_known_ones_is_told(name: str, value: str) -> None:
    result = CliRunner().invoke(main, ["fold"], env={"DATABASE_URL": NOWHERE, name: value})
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {name} is '{value}'; expected ")


def test_the_process_that_folds_tells_metrics_and_logs_json(
    settings: Settings, database: Connection
) -> None:
    record_metrics(database, 10)
    with subprocess.Popen(
        [COMMAND, "fold", "--metrics", "0"],
        env={
            **os.environ,
            "DATABASE_URL": settings.conninfo,
            "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS": "0.1",
            "SESSION_ANALYTICS_LOG_FORMAT": "json",
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            told = json.loads(process.stderr.readline())
            url = told["message"].split()[3].removesuffix(".")
            while samples(scraped(url)).get(WHILE_ANYTHING_IS_NOT_FOLDED) != 0:
                pass
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=SECONDS_TO_STOP)
        finally:
            process.kill()
    assert process.returncode == 0
    assert told["message"] == f"Serving metrics on {url}."
    assert url.startswith("http://127.0.0.1:")
    lines = [told, *map(json.loads, rest.splitlines())]
    for line in lines:
        assert line.keys() == {"time", "level", "logger", "message"}
        assert line["time"].endswith("+00:00")
    assert {line["logger"] for line in lines} == {"fiml.cli", "fiml.warehouse.folder"}
    assert any(line["message"].startswith("session_totals: rebuild in ") for line in lines)
