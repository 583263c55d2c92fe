"""Lines of the log, in both forms."""

import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest
from opentelemetry import trace

from fiml.monitoring.logs import LogFormat, line_formatter

SECRET = "analyst_001 asked for it\nERROR root: a line like any other"


def record_of(error: ValueError) -> logging.LogRecord:
    try:
        raise error
    except ValueError as raised:
        info = type(raised), raised, raised.__traceback__
    return logging.LogRecord("fiml.web", logging.ERROR, __file__, 1, "it %s", ("failed",), info)


def test_json_is_one_object_a_line() -> None:
    record = logging.LogRecord("fiml", logging.WARNING, __file__, 1, "two\nlines: %s", ("ψ",), None)
    line = line_formatter(LogFormat.JSON).format(record)
    assert "\n" not in line
    found = json.loads(line)
    moment = datetime.fromisoformat(found.pop("time"))
    assert abs(moment.timestamp() - record.created) < 0.001
    assert found == {"level": "WARNING", "logger": "fiml", "message": "two\nlines: ψ"}


@pytest.mark.parametrize("log_format", LogFormat)
def test_an_exception_is_told_by_its_type_and_place_and_not_by_its_text(
    log_format: LogFormat,
) -> None:
    line = line_formatter(log_format).format(record_of(ValueError(SECRET)))
    assert "analyst_001" not in line
    assert "ValueError" in line
    assert "record_of" in line
    if log_format is LogFormat.JSON:
        exception = json.loads(line)["exception"]
        assert exception["type"] == "ValueError"
        assert [frame["function"] for frame in exception["frames"]] == ["record_of"]


def test_a_line_inside_a_span_names_it() -> None:
    context = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False)
    record = logging.LogRecord("fiml", logging.WARNING, __file__, 1, "inside", (), None)
    with trace.use_span(trace.NonRecordingSpan(context)):
        found = json.loads(line_formatter(LogFormat.JSON).format(record))
    assert found["trace_id"] == "abc".rjust(32, "0")
    assert found["span_id"] == "def".rjust(16, "0")


ATTEMPTS = """
import logging
from psycopg_pool import ConnectionPool, PoolTimeout
from fiml.monitoring.logs import log_to_stderr

log_to_stderr()
with ConnectionPool("host=127.0.0.1 port=1", min_size=1, open=True) as pool:
    try:
        pool.getconn(timeout=1)
    except PoolTimeout:
        logging.getLogger("fiml").warning("a request failed")
"""


def test_attempts_to_connect_are_not_logged_beside_what_failed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS], capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = done.stderr.splitlines()
    assert line.endswith(" WARNING fiml: a request failed")
