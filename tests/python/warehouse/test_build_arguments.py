"""What dbt is told, and what is made of what it tells."""

from pathlib import Path

import pytest

from fiml.errors import SettingsError
from fiml.settings import Settings
from fiml.warehouse._dbt import Event, dbt_arguments, dbt_environment
from fiml.warehouse.builds import build_command, progress_line, reason, result_of


def test_a_scheduled_build_leaves_tests_of_the_sql_out() -> None:
    assert build_command() == [
        "build",
        "--exclude-resource-type",
        "unit_test",
        "--exclude",
        "tag:by_construction",
    ]


def test_a_build_with_unit_tests_is_dbts_own() -> None:
    assert build_command(with_unit_tests=True) == ["build"]


def test_from_scratch_is_dbts_full_refresh() -> None:
    assert build_command(from_scratch=True)[-1] == "--full-refresh"


def test_dbt_works_in_the_project_whatever_the_callers_folder_is() -> None:
    arguments = dbt_arguments(
        ["build"], project_dir=Path("/project"), target_path=Path("/target/0")
    )
    assert arguments == [
        "build",
        "--project-dir",
        "/project",
        "--profiles-dir",
        "/project",
        "--target-path",
        "/target/0",
        "--log-path",
        "/target/0",
        "--log-level-file",
        "none",
        "--log-format",
        "json",
        "--no-use-colors",
    ]


def test_dbts_environment_carries_the_connection_and_no_other_projects_settings() -> None:
    settings = Settings(
        conninfo="host=db port=5433 user=builder password=secret dbname=app",
        source_schema="application",
    )
    found = dbt_environment(settings, {"PATH": "/bin", "PGHOST": "other", "DBT_FULL_REFRESH": "1"})
    assert found == {
        "PATH": "/bin",
        "PGHOST": "db",
        "PGPORT": "5433",
        "PGUSER": "builder",
        "PGPASSWORD": "secret",
        "PGDATABASE": "app",
        "SESSION_ANALYTICS_SOURCE_SCHEMA": "application",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(
    ("conninfo", "told"),
    [
        ("postgresql://u@h1,h2/db", {"PGHOST": "h1,h2", "PGPORT": "5432"}),
        ("postgresql://u@h1:6000,h2:6000/db", {"PGHOST": "h1,h2", "PGPORT": "6000"}),
        ("host=h hostaddr=10.0.0.1", {"PGHOST": "h", "PGHOSTADDR": "10.0.0.1"}),
        ("options='-c role=x'", {"PGOPTIONS": "-c role=x"}),
        ("channel_binding=require", {"PGCHANNELBINDING": "require"}),
        ("passfile=/etc/passes", {"PGPASSFILE": "/etc/passes"}),
        (
            "sslmode=verify-full sslrootcert=/ca.pem sslcert=/c.pem sslkey=/k.pem",
            {
                "PGSSLMODE": "verify-full",
                "PGSSLROOTCERT": "/ca.pem",
                "PGSSLCERT": "/c.pem",
                "PGSSLKEY": "/k.pem",
            },
        ),
        ("target_session_attrs=read-write", {"PGTARGETSESSIONATTRS": "read-write"}),
    ],
)
def test_every_keyword_that_has_a_variable_reaches_dbt(conninfo: str, told: dict[str, str]) -> None:
    found = dbt_environment(Settings(conninfo=conninfo), {"PGHOST": "other", "PGOPTIONS": "-c a=b"})
    assert told.items() <= found.items()


@pytest.mark.parametrize(
    ("conninfo", "told"),
    [
        ("postgresql://u:secret@h1,h2:5433/db", "one port for every host"),
        ("host=h user=u sslkey=/k sslpassword=secret", "the connection's sslpassword"),
        ("host=h user=u scram_client_key=secret", "the connection's scram_client_key"),
    ],
)
def test_what_dbt_cannot_be_told_is_refused_with_what_to_set(conninfo: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        dbt_environment(Settings(conninfo=conninfo), {})
    assert "SESSION_ANALYTICS_BUILDER_URL" in str(refused.value)
    assert "secret" not in str(refused.value)


def _event(name: str, status: str, node: str, materialized: str = "fold") -> Event:
    return Event(
        name,
        "info",
        "",
        {
            "status": status,
            "execution_time": 0.44,
            "node_info": {"node_name": node, "materialized": materialized},
        },
    )


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            _event("LogModelResult", "DELETE 0", "daily_asset_counts"),
            "daily_asset_counts folded in 0.4 s",
        ),
        (
            _event("LogModelResult", "CREATE VIEW", "fct_sessions", "view"),
            "fct_sessions built in 0.4 s",
        ),
        (
            _event("LogModelResult", "error", "fct_sessions", "view"),
            "fct_sessions failed after 0.4 s",
        ),
        (_event("LogTestResult", "fail", "a_test"), "a_test failed"),
        (_event("LogTestResult", "pass", "a_test"), None),
        (Event("MainReportVersion", "info", "Running with dbt", {}), None),
    ],
)
def test_a_person_hears_of_models_and_of_failures(event: Event, line: str | None) -> None:
    assert progress_line(event) == line


def _result(unique_id: str, status: str, message: str | None = None) -> dict[str, object]:
    return {"unique_id": unique_id, "status": status, "message": message}


def test_a_build_succeeded_when_no_model_and_no_test_failed() -> None:
    found = result_of(
        {
            "results": [
                _result("operation.p.p-on-run-start-0", "success"),
                _result("model.p.daily_asset_counts", "success"),
                _result("test.p.a_test.0123", "pass"),
                _result("exposure.p.reader", "no-op"),
            ]
        },
        2.5,
    )
    assert (found.succeeded, found.failures, found.seconds, found.nodes) == (True, (), 2.5, 2)


def test_failures_are_named_with_their_reason_and_skipped_nodes_are_not() -> None:
    message = (
        "Database Error in model x (models/x.sql)\n  division by zero\n  compiled code at target"
    )
    found = result_of(
        {
            "results": [
                _result("model.p.x", "error", message),
                _result("test.p.a_test.0123", "fail", "Got 3 results, configured to fail if != 0"),
                _result("model.p.y", "skipped"),
            ]
        },
        1.0,
    )
    assert found.failures == (
        "x: division by zero",
        "a_test: Got 3 results, configured to fail if != 0",
    )
    assert (found.succeeded, found.nodes) == (False, 2)


def test_what_follows_a_failed_hook_is_not_blamed() -> None:
    found = result_of(
        {
            "results": [
                _result(
                    "operation.p.p-on-run-start-0",
                    "error",
                    "hook failed, error:\n no such function",
                ),
                _result("test.p.a_test.0123", "error", "relation does not exist"),
            ]
        },
        1.0,
    )
    assert found.failures == ("p-on-run-start-0: no such function",)


def test_a_reason_is_one_line_even_of_nothing() -> None:
    assert reason("") == "no reason given"
    assert reason("Encountered an error:\nDatabase Error\n  refused\n") == "refused"
