"""The log: a line of JSON for each notice, at the level of its severity."""

from __future__ import annotations

import json
import logging

import pytest
from alerts.world import Connection, File, add_sessions

from fiml.alerts.evaluation import evaluate
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("severity", "level"),
    [("info", logging.INFO), ("warning", logging.WARNING), ("critical", logging.ERROR)],
)
async def test_it_is_a_line_of_json(
    database: Connection,
    settings: Settings,
    file: File,
    caplog: pytest.LogCaptureFixture,
    severity: str,
    level: int,
) -> None:
    file.rule(severity=severity)
    add_sessions(database, 10, abandoned=True)
    with caplog.at_level(logging.INFO, logger="fiml.alerts"):
        await evaluate(settings)
        add_sessions(database, 90)
        await evaluate(settings)
    lines = [
        (record.levelno, json.loads(record.message)["event"])
        for record in caplog.records
        if record.name == "fiml.alerts"
    ]
    assert lines == [(level, "fired"), (logging.INFO, "over")]
