"""The demo from end to end, as a process: what it prints, what it leaves, how it is interrupted."""

import fcntl
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alerts.world import File, receiving
from monitoring.collector import collecting
from psycopg import sql
from psycopg.conninfo import make_conninfo
from spreading import spread

from fiml.demo._database import DATABASE
from fiml.demo.history import HEAVY_USER

HEADING = re.compile(r"^(.+), the 30 days before (\S+):$", re.MULTILINE)
KEYS = [
    "status",
    "total_sessions",
    "active_sessions",
    "archived_sessions",
    "total_queries",
    "avg_duration_seconds",
    "avg_queries_per_session",
    "abandonment_rate",
    "period_days",
    "user_id",
    "session_type",
    "top_assets",
    "query_type_distribution",
    "session_type_breakdown",
    "popular_tags",
]

# Within the steps that take time; the long run adds the moments between.
INTERRUPTIONS = ["Find PostgreSQL", "  marts", "  50%", "  daily_"]
MORE_INTERRUPTIONS = [
    "Make the database",
    "Make up",
    "Load them",
    "Dagster",
    "  archived_sessions",
    "  daily_",
    "Read the figures",
    "Done",
]


def _answers(out: str) -> list[tuple[str, dict[str, Any]]]:
    """The dictionaries that were printed, each with its time."""
    return [
        (heading[2], json.JSONDecoder().raw_decode(out, out.index("{", heading.end()))[0])
        for heading in HEADING.finditer(out)
    ]


def _assert_shows_both_answers(run: Any) -> None:
    assert run.code == 0, run.err
    (_, platform), (_, user) = _answers(run.out)
    assert list(platform) == KEYS
    assert list(user) == KEYS
    assert (platform["user_id"], user["user_id"]) == (None, HEAVY_USER)
    assert platform["total_sessions"] > user["total_sessions"] > 0
    assert platform["active_sessions"] > 0
    assert "Top assets" in run.out
    assert "Traceback" not in run.err


def _assert_was_interrupted(run: Any, checkout: Any) -> None:
    assert (run.code, run.out) == (130, "")
    assert run.err.splitlines()[-1] == "Interrupted; the next run starts over."
    assert "Traceback" not in run.err
    assert checkout.processes() == []


@pytest.mark.parametrize("moment", spread(INTERRUPTIONS, len(INTERRUPTIONS)))
def test_interrupted_in_any_step_it_leaves_nothing_and_the_next_run_succeeds(
    checkout: Any, moment: str
) -> None:
    run = checkout.demo(interrupt_at=moment, whole_group=True)
    _assert_was_interrupted(run, checkout)
    _assert_shows_both_answers(checkout.demo())
    assert checkout.processes() == []
    # All of them once, whatever the runs before left. One may expire while the others are counted.
    figures = json.loads(checkout.command("stats", "--days", "365", "--json"))
    stored = figures["total_sessions"] + figures["active_sessions"]
    assert checkout.sessions - 2 <= stored <= checkout.sessions


@pytest.mark.long
@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("moment", MORE_INTERRUPTIONS)
def test_it_can_be_interrupted_between_steps_too(
    checkout: Any, moment: str, whole_group: bool
) -> None:
    run = checkout.demo(interrupt_at=moment, whole_group=whole_group)
    if moment == "Done" and run.code == 0:
        # It was faster than the signal.
        return
    assert run.code == 130
    assert "Traceback" not in run.err
    assert checkout.processes() == []


@pytest.fixture
def named_database(make_database: Callable[..., str]) -> Iterator[str]:
    """A database with a table in it, on a server where the demo's own one goes after the test."""
    conninfo = make_database()
    lock = Path(tempfile.gettempdir()) / f"session-analytics-demo-tests-{os.getuid()}.lock"
    with lock.open("w") as file, psycopg.connect(conninfo, autocommit=True) as connection:
        # The demo's database has one name for all workers of a test run.
        fcntl.flock(file, fcntl.LOCK_EX)
        connection.execute("create table sessions as select 1 as precious")
        yield conninfo
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(DATABASE))
        )


CONTENTS = """
select array_agg(format('%s %s %s', relnamespace::regnamespace, relname, relfilenode) order by oid)
from pg_class
where oid >= 16384
"""


def test_with_database_url_it_keeps_to_a_database_of_its_own_and_answers_exactly(
    checkout: Any, named_database: str
) -> None:
    with psycopg.connect(named_database, autocommit=True) as connection:
        before = connection.execute(CONTENTS).fetchone()
        run = checkout.demo(database_url=named_database)
        _assert_shows_both_answers(run)
        assert connection.execute(CONTENTS).fetchone() == before
        assert connection.execute("table sessions").fetchall() == [(1,)]
    assert not list(checkout.folder.glob(".session-analytics/postgres-*/running.json"))

    with psycopg.connect(make_conninfo(named_database, dbname=DATABASE)) as connection:
        for as_of, answer in _answers(run.out):
            assert answer == {**answer, **_naive_facts(connection, as_of, answer["user_id"])}

    environment = checkout.folder / ".session-analytics" / "demo.env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert ". .session-analytics/demo.env" in run.err
    script = (
        ". .session-analytics/demo.env; "
        f'{sys.executable} -c "from fiml.cli import main; main()" stats --user {HEAVY_USER} --json'
    )
    again = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=checkout.folder,
        env=checkout.environment(None),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(again.stdout)["user_id"] == HEAVY_USER


def _naive_facts(
    connection: psycopg.Connection[Any], as_of: str, user_id: str | None
) -> dict[str, Any]:
    window = {"as_of": as_of, "user_id": user_id}
    metrics = """
        from session_metrics
        where
            created_at >= %(as_of)s::timestamptz - interval '720 hours'
            and created_at < %(as_of)s::timestamptz
            and (user_id = %(user_id)s::text or %(user_id)s::text is null)
    """
    sums = connection.execute(
        f"select count(*), sum(total_queries)::bigint {metrics}", window
    ).fetchone()
    archived = connection.execute(
        """
        select count(*)
        from sessions
        where
            is_archived
            and archived_at >= %(as_of)s::timestamptz - interval '720 hours'
            and archived_at < %(as_of)s::timestamptz
            and (user_id = %(user_id)s::text or %(user_id)s::text is null)
        """,
        window,
    ).fetchone()
    assets = connection.execute(
        f"""
        select jsonb_array_elements_text(assets_analyzed) collate "C" as symbol, count(*) {metrics}
        group by 1
        order by 2 desc, 1
        limit 10
        """,
        window,
    ).fetchall()
    assert sums is not None
    assert archived is not None
    return {
        "total_sessions": sums[0],
        "total_queries": sums[1],
        "archived_sessions": archived[0],
        "top_assets": [{"symbol": symbol, "count": count} for symbol, count in assets],
    }


def test_it_tells_nobody_of_sample_data_whatever_is_exported_for_another_database(
    checkout: Any, tmp_path: Path
) -> None:
    with receiving() as receiver, collecting() as collector:
        file = File(tmp_path / "alerts.yml")
        file.channels = {"hook": {"kind": "webhook", "url": receiver.url}}
        # It holds of whatever there is.
        file.rule(comparison="at_least", threshold=0, channels=["hook"])
        run = checkout.demo(
            SESSION_ANALYTICS_ALERTS_FILE=str(file.path),
            SESSION_ANALYTICS_BI_ROLE="analysts",
            SESSION_ANALYTICS_TRACES="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            PGSERVICE="nowhere",
            PGSSLMODE="require",
        )
    _assert_shows_both_answers(run)
    assert receiver.requests == []
    assert collector.spans == []


def test_a_database_of_that_name_that_no_demo_made_is_not_touched(
    checkout: Any, named_database: str
) -> None:
    with psycopg.connect(named_database, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0").format(sql.Identifier(DATABASE))
        )
    with psycopg.connect(make_conninfo(named_database, dbname=DATABASE)) as connection:
        connection.execute("create table precious ()")
    run = checkout.demo(database_url=named_database)
    assert run.code == 1
    assert run.err.splitlines()[-1] == (
        f"The demo failed: the server has a database {DATABASE} that no demo made; rename it first"
    )
    with psycopg.connect(make_conninfo(named_database, dbname=DATABASE)) as connection:
        assert connection.execute("table precious").fetchall() == []


def test_a_server_that_does_not_answer_is_one_sentence_without_the_password(checkout: Any) -> None:
    run = checkout.demo(database_url="postgresql://somebody:sesame@127.0.0.1:1/x")
    assert (run.code, run.out) == (1, "")
    assert run.err.splitlines()[-1].startswith("The demo failed: ")
    assert "127.0.0.1" in run.err.splitlines()[-1]
    assert "sesame" not in run.err
    assert "Traceback" not in run.err
