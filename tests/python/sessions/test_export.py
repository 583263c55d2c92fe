"""What the reader exports as JSON and CSV."""

import csv
import io
import json
from typing import Any
from uuid import UUID

import pytest
from sessions.examples import USER, Connection, write

from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.models import SessionType

pytestmark = pytest.mark.anyio

COLUMNS = [
    "session_id",
    "user_id",
    "session_type",
    "created_at",
    "duration_seconds",
    "total_queries",
    "cache_hit_rate",
    "avg_query_time_ms",
    "assets_analyzed",
    "query_type_summary",
    "tags",
    "completed_normally",
    "abandoned",
]


async def test_the_json_export_is_the_documented_answer(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, rows=3)
    write(database, session_type="macro")
    for question in ({}, {"user_id": USER, "session_type": "macro", "days": 7}):
        found = await analytics.export_session_metrics(format="json", **question)
        assert found == await analytics.get_session_stats(**question)
        assert found == await analytics.export_session_metrics(**question)


async def test_the_csv_export_has_a_header_and_a_row_for_each_session_of_the_window(
    analytics: SessionAnalytics, database: Connection
) -> None:
    write(database, rows=3)
    write(database, session_type="macro", user_id=None)
    database.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', now() - interval '8 days', 1), "
        "(gen_random_uuid(), 'equity', now() + interval '1 day', 1)"
    )

    async def rows(**question: Any) -> list[dict[str, str]]:
        text = await analytics.export_session_metrics("csv", **question)
        assert isinstance(text, str)
        assert text.endswith("\r\n")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        assert reader.fieldnames == COLUMNS
        return list(reader)

    found = await rows(days=7)
    assert len(found) == 4
    assert [row["created_at"] for row in found] == sorted(row["created_at"] for row in found)
    assert all(row["created_at"].endswith("+00:00") for row in found)
    ids = {UUID(row["session_id"]) for row in found}
    assert len(ids) == 4
    assert len(await rows(days=30)) == 5
    assert len(await rows(user_id=USER)) == 3
    assert len(await rows(session_type="equity", days=7)) == 3
    macro = await rows(session_type=SessionType.MACRO)
    assert {
        name: macro[0][name] for name in COLUMNS if name not in ("session_id", "created_at")
    } == {
        "user_id": "",
        "session_type": "macro",
        "duration_seconds": "60",
        "total_queries": "2",
        "cache_hit_rate": "0.0",
        "avg_query_time_ms": "",
        "assets_analyzed": '["AAPL"]',
        "query_type_summary": '{"price": 2}',
        "tags": '["tech"]',
        "completed_normally": "false",
        "abandoned": "false",
    }


async def test_the_csv_export_carries_any_text(
    analytics: SessionAnalytics, database: Connection
) -> None:
    odd = [',"\r\n', "😀", "\n", '""', "=1+1", "\\", "'", " a ", "e\u0301", "\u2028"]
    for name in odd:
        write(database, user_id=name, assets_analyzed=json.dumps([name]), cache_hit_rate=name)
    text = await analytics.export_session_metrics("csv")
    assert isinstance(text, str)
    # As a file that is written without translating line ends, and read by another program.
    lines = csv.DictReader(io.StringIO(text.encode().decode(), newline=""), strict=True)
    found = {row["user_id"]: row for row in lines}
    assert set(found) == set(odd)
    for name, row in found.items():
        assert json.loads(row["assets_analyzed"]) == [name]
        assert row["cache_hit_rate"] == name
        assert row["tags"] == '["tech"]'


async def test_the_csv_export_of_an_empty_window_is_its_header(analytics: SessionAnalytics) -> None:
    assert await analytics.export_session_metrics("csv") == ",".join(COLUMNS) + "\r\n"
