"""Everything that can be wrong with an installation, made wrong for real, is found."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fiml.sessions.health import Finding, Limits, Severity, _server, _spans, examine, is_healthy
from fiml.sessions.migrations import MIGRATIONS, migrate
from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

EXPIRED = """
insert into sessions (id, type, created_at, expires_at)
select gen_random_uuid(), 'equity', now() - interval '3 days', now() - interval '2 days'
from generate_series(1, %s)
"""


def findings_of(settings: Settings, limits: Limits | None = None) -> dict[str, Finding]:
    return {finding.code: finding for finding in asyncio.run(examine(settings, limits))}


@pytest.fixture
def source(migrated_database: str) -> Iterator[Connection]:
    """A connection to the migrated database, in autocommit."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


def build(connection: Connection) -> None:
    """Fold what there is, as a dbt build does around its models; the marts stay empty."""
    run_id = str(uuid.uuid4())
    connection.execute("select analytics.open_window(%s)", [run_id])
    for (mart,) in connection.execute("select mart from analytics.watermarks").fetchall():
        with connection.transaction():
            connection.execute("select analytics.begin_fold(%s, %s)", [mart, run_id])
            connection.execute("select analytics.end_fold(%s)", [mart])


def test_a_fresh_build_is_healthy(settings: Settings, source: Connection) -> None:
    build(source)
    findings = asyncio.run(examine(settings))
    # The tests' login is a superuser.
    bad = [finding.code for finding in findings if finding.severity is not Severity.OK]
    assert bad == ["login"]
    assert [finding.code for finding in findings if finding.remedy is not None] == bad
    assert is_healthy(findings)


@pytest.mark.parametrize(
    ("conninfo", "title"),
    [
        ("host=127.0.0.1 port=1 dbname=x", "no server"),
        ("host=/nowhere dbname=x", "no server"),
        ("host=nohost.invalid dbname=x", "no server"),
    ],
)
def test_a_server_that_is_not_there_is_the_only_finding(conninfo: str, title: str) -> None:
    (finding,) = asyncio.run(examine(Settings(conninfo=conninfo)))
    assert (finding.code, finding.severity) == ("server.unreachable", Severity.ERROR)
    assert finding.title == title
    assert finding.remedy is not None
    assert not is_healthy([finding])


def test_a_database_that_is_not_there_is_told_from_a_server_that_is_not(server: Any) -> None:
    (finding,) = asyncio.run(examine(Settings(conninfo=server.conninfo("no_such_database"))))
    assert finding.title == "no such database"


def test_a_user_that_is_not_there_is_told(migrated_database: str) -> None:
    conninfo = make_conninfo(migrated_database, user="nobody", password="wrong")
    (finding,) = asyncio.run(examine(Settings(conninfo=conninfo)))
    assert finding.title in {"no such user", "login refused"}
    assert "wrong" not in finding.detail


def test_an_old_server_is_told() -> None:
    finding = _server.server(140_011, "14.11", "x")
    assert (finding.code, finding.severity) == ("server.too_old", Severity.ERROR)
    assert "14.11" in finding.detail


def test_a_database_that_is_not_migrated_is_told(empty_database: str) -> None:
    findings = findings_of(Settings(conninfo=empty_database))
    assert list(findings) == ["server", "installation.missing"]
    assert findings["installation.missing"].remedy == "Run `session-analytics migrate`."


def test_another_version_is_told(empty_database: str) -> None:
    migrate(empty_database, up_to=2)
    settings = Settings(conninfo=empty_database)
    older = findings_of(settings)["installation.version"]
    assert f"version 2, this package needs {MIGRATIONS[-1].version}" in older.detail
    assert older.remedy == "Run `session-analytics migrate`."
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("insert into analytics.migrations values (9999, 'future', '')")
    newer = findings_of(settings)["installation.version"]
    assert newer.remedy == "Install the newer session-analytics."


def test_another_source_schema_is_told(settings: Settings) -> None:
    finding = findings_of(replace(settings, source_schema="app"))["installation.source_schema"]
    assert finding.remedy == "Set SESSION_ANALYTICS_SOURCE_SCHEMA=public."


def test_a_source_table_that_is_gone_is_told(settings: Settings, source: Connection) -> None:
    source.execute("drop table session_metrics cascade")
    finding = findings_of(settings)["source.missing"]
    assert finding.severity is Severity.ERROR
    assert "public.session_metrics" in finding.detail


@pytest.mark.parametrize("table", ["sessions", "session_metrics"])
@pytest.mark.parametrize("state", ["disable", "enable replica"])
def test_a_trigger_that_does_not_fire_is_told_with_the_statement_that_mends_it(
    settings: Settings, source: Connection, table: str, state: str
) -> None:
    source.execute(f"alter table {table} {state} trigger analytics_log_delete".encode())
    finding = findings_of(settings)["triggers.disabled"]
    assert finding.severity is Severity.ERROR
    statement = f"alter table public.{table} enable trigger analytics_log_delete;"
    assert finding.remedy is not None
    assert statement in finding.remedy
    source.execute(statement.encode())
    assert "triggers" in findings_of(settings)


@pytest.mark.parametrize(
    ("table", "trigger"),
    [("sessions", "analytics_log_update"), ("session_metrics", "analytics_fill_tags")],
)
def test_a_trigger_that_is_gone_is_told(
    settings: Settings, source: Connection, table: str, trigger: str
) -> None:
    source.execute(f"drop trigger {trigger} on {table}".encode())
    finding = findings_of(settings)["triggers.missing"]
    assert finding.severity is Severity.ERROR
    assert f"public.{table} lacks {trigger}" in finding.detail


def test_a_trigger_that_always_fires_is_well(settings: Settings, source: Connection) -> None:
    source.execute("alter table sessions enable always trigger analytics_log_delete")
    assert "triggers" in findings_of(settings)


def test_before_the_first_build_a_build_is_advised(settings: Settings) -> None:
    findings = findings_of(settings)
    assert findings["build.missing"].severity is Severity.WARNING
    assert "all 6 marts" in findings["build.missing"].detail
    assert is_healthy(list(findings.values()))


def test_marts_of_another_server_are_told(settings: Settings, source: Connection) -> None:
    build(source)
    source.execute(
        "update analytics.watermarks set system_identifier = 1 where mart like 'daily_t%'"
    )
    finding = findings_of(settings)["build.foreign"]
    assert finding.severity is Severity.WARNING
    assert "daily_tag_counts" in finding.detail


def test_a_rebuild_that_waits_is_told(settings: Settings, source: Connection) -> None:
    build(source)
    source.execute("select analytics.request_rebuild()")
    assert "build.rebuild_requested" in findings_of(settings)
    build(source)
    assert "build.rebuild_requested" not in findings_of(settings)


def test_a_stale_build_is_told_after_three_periods_of_the_schedule(
    settings: Settings, source: Connection
) -> None:
    build(source)
    source.execute(
        "update analytics.watermarks set folded_at = now() - interval '2 hours' "
        "where mart = 'daily_asset_counts'"
    )
    assert "2 h ago, more than 60 min" in findings_of(settings)["build.stale"].detail
    assert "build" in findings_of(replace(settings, schedule="0 * * * *"))
    assert "build" in findings_of(settings, Limits(build_age=timedelta(hours=3)))


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("*/15 * * * *", 1),
        ("*/30 * * * *", 1.5),
        ("* * * * *", 1),
        ("7 * * * *", 3),
        ("7 */6 * * *", 18),
        ("17 3 * * *", 72),
        ("0 3 * * 1", 504),
        ("nonsense", 504),
    ],
)
def test_patience_is_three_periods_and_at_least_an_hour(schedule: str, hours: float) -> None:
    assert _spans.patience(schedule) == timedelta(hours=hours)


def test_a_growing_feed_is_told_with_its_oldest_mart(
    settings: Settings, source: Connection
) -> None:
    build(source)
    source.execute("update analytics.watermarks set window_id = 0 where mart = 'daily_user_stats'")
    source.execute(EXPIRED, [50])
    source.execute("select * from analytics.archive_expired_sessions(1000)")
    quiet = findings_of(settings)["feed"]
    assert "150 rows" in quiet.detail
    growing = findings_of(settings, Limits(feed_rows=99))["feed.growing"]
    assert "oldest mart: daily_user_stats" in growing.detail
    assert "feed.growing" in findings_of(settings, Limits(feed_bytes=1000))


def test_a_serving_layer_that_is_behind_or_gone_is_told(
    settings: Settings, source: Connection
) -> None:
    build(source)
    source.execute(EXPIRED, [50])
    source.execute("select * from analytics.archive_expired_sessions(1000)")
    assert findings_of(settings)["serving"].detail == "150 changes are not folded yet."
    behind = findings_of(settings, Limits(unseen_rows=149))["serving.behind"]
    assert "`session-analytics fold`" in (behind.remedy or "")
    source.execute("select analytics.set_serving_layout(keyed_names => 1)")
    assert "serving.full" not in findings_of(settings)
    source.execute("insert into serving.keys (key_id, kind, name) values (2, 'asset', 'A')")
    full = findings_of(settings)["serving.full"]
    assert full.detail.startswith("All 1 keys")
    assert "keyed_names" in (full.remedy or "")
    source.execute("drop schema serving cascade")
    assert "read from the marts" in findings_of(settings)["serving.missing"].detail


def test_pending_archival_is_told(settings: Settings, source: Connection) -> None:
    source.execute(EXPIRED, [3])
    finding = findings_of(settings)["archival.pending"]
    assert "3 expired sessions wait, the oldest for 2 days" in finding.detail
    assert finding.remedy == "Run `session-analytics archive`."
    assert "archival" in findings_of(settings, Limits(archival_delay=timedelta(days=3)))
    source.execute("select * from analytics.archive_expired_sessions(1000)")
    assert findings_of(settings)["archival"].detail == "No expired session is waiting."


def test_a_session_that_expired_before_all_time_is_no_trouble(
    settings: Settings, source: Connection
) -> None:
    source.execute(
        "insert into sessions (id, type, expires_at) "
        "values (gen_random_uuid(), 'equity', '-infinity')"
    )
    assert "1 expired session waits" in findings_of(settings)["archival"].detail


def test_rows_set_aside_are_told_by_reason_and_are_not_pending(
    settings: Settings, source: Connection
) -> None:
    source.execute(EXPIRED, [2])
    source.execute(
        "alter table session_metrics add constraint no_metrics check (duration_seconds < 0)"
    )
    source.execute("select * from analytics.archive_expired_sessions(1000)")
    findings = findings_of(settings)
    assert findings["quarantine.archival"].detail.startswith("2 of archival: ")
    assert "no_metrics" in findings["quarantine.archival"].detail
    assert findings["quarantine.archival"].remedy is not None
    assert "--retry-quarantined" in findings["quarantine.archival"].remedy
    assert findings["archival"].detail == "No expired session is waiting."


def test_every_kind_of_row_that_is_set_aside_is_told_with_what_to_do(
    settings: Settings, source: Connection
) -> None:
    source.execute("update analytics.settings set horizon = '2020-01-01'")
    source.execute(
        "insert into sessions (id, type, is_archived, archived_at) "
        "values (gen_random_uuid(), 'equity', true, '2019-12-31')"
    )
    source.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', '2019-12-31', 1)"
    )
    findings = findings_of(settings)
    for fact in ("late archival", "metrics"):
        assert findings[f"quarantine.{fact}"].detail.startswith(f"1 of {fact}: ")
        assert "analytics.quarantine" in (findings[f"quarantine.{fact}"].remedy or "")


def test_sessions_without_an_expiry_are_told(settings: Settings, source: Connection) -> None:
    source.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    finding = findings_of(settings)["sessions.without_expiry"]
    assert finding.severity is Severity.WARNING
    assert finding.detail.startswith("1 open sessions")


def test_archival_that_records_no_metrics_is_told(settings: Settings, source: Connection) -> None:
    source.execute(EXPIRED, [2])
    source.execute("select * from analytics.archive_expired_sessions(1)")
    assert "metrics" in findings_of(settings)
    source.execute("update session_metrics set recorded_at = now() - interval '1 day'")
    source.execute("update sessions set is_archived = true, archived_at = now()")
    finding = findings_of(settings)["metrics.missing"]
    assert finding.severity is Severity.WARNING
    assert "recorded last: 24 h ago" in finding.detail


def test_a_question_that_cannot_be_asked_is_a_finding_and_the_others_go_on(
    settings: Settings, source: Connection
) -> None:
    source.execute("drop table analytics.quarantine cascade")
    findings = findings_of(settings)
    assert findings["quarantine.unknown"].severity is Severity.ERROR
    assert "quarantine" in findings["quarantine.unknown"].detail
    assert "metrics" in findings


def test_a_role_without_rights_is_told_to_be_another(
    settings: Settings, source: Connection, make_role: Callable[[], str]
) -> None:
    role = make_role()
    source.execute(f"grant usage on schema analytics to {role}".encode())
    source.execute(f"grant select on analytics.migrations, analytics.settings to {role}".encode())
    conninfo = make_conninfo(settings.conninfo, options=f"-c role={role}")
    findings = findings_of(replace(settings, conninfo=conninfo))
    assert findings["build.unknown"].remedy == "Run this as the owner of the database."


@pytest.fixture
def make_role(server: Any, source: Connection) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        name = f"session_analytics_test_{uuid.uuid4().hex}"
        with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
            connection.execute(f"create role {name}".encode())
        made.append(name)
        return name

    yield make
    with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
        for name in made:
            source.execute(f"drop owned by {name}".encode())
            connection.execute(f"drop role {name}".encode())
