"""Ticks and runs on a real database: what counts is the rows, not that Dagster says "success"."""

from typing import Any

import dagster as dg
import pytest
from warehouse.application import (
    Connection,
    leave_expired_sessions,
    mart_rows,
    one,
    record_metrics,
)

from fiml.settings import Settings
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts
from orchestration.definitions import make_definitions


def _tick(instance: dg.DagsterInstance, schedule: str) -> dg.ExecuteInProcessResult:
    """Evaluate a schedule as the daemon does, and execute the run that it asks for."""
    definitions = make_definitions(Settings.from_environment())
    repository = definitions.get_repository_def()
    evaluated = repository.get_schedule_def(schedule)
    with dg.build_schedule_context(instance=instance, repository_def=repository) as context:
        tick = evaluated.evaluate_tick(context)
    assert tick.run_requests is not None
    [request] = tick.run_requests
    return definitions.resolve_job_def(evaluated.job_name).execute_in_process(
        instance=instance,
        run_config=request.run_config or None,
        tags=request.tags,
        raise_on_error=False,
    )


def _steps(result: dg.ExecuteInProcessResult, event_type: str) -> set[str | None]:
    return {event.step_key for event in result.all_events if event.event_type_value == event_type}


def _failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        f"{check.asset_key.to_user_string()} {check.check_name}": {
            name: value.value for name, value in check.metadata.items()
        }
        for check in result.get_asset_check_evaluations()
        if not check.passed
    }


def test_a_tick_archives_expired_sessions_and_folds_them_into_every_mart(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    leave_expired_sessions(database, 7)
    result = _tick(instance, "archive_and_build_schedule")
    assert result.success
    assert one(database, "select count(*) from sessions where is_archived") == 7
    assert one(database, "select count(*) from session_metrics where total_queries = 1") == 7
    figures = database.execute(
        "select sum(sessions), sum(queries), sum(duration_seconds), sum(archived_sessions), "
        "sum(abandoned_sessions) from marts.daily_session_stats"
    ).fetchone()
    assert figures == (7, 7, 7 * 24 * 3600, 7, 7)
    rows = {mart: [row[1:] for row in rows] for mart, rows in mart_rows(database).items()}
    assert rows["daily_asset_counts"] == [("portfolio", "GLD", 7), ("portfolio", "SLV", 7)]
    assert rows["daily_tag_counts"] == [("portfolio", "late", 7)]
    assert rows["daily_query_type_counts"] == [("portfolio", "risk", 7)]
    assert one(database, "select count(distinct user_key) from marts.daily_user_stats") == 7
    [archival] = result.asset_materializations_for_node("archived_sessions")
    assert archival.metadata["archived"].value == 7
    assert archival.metadata["quarantined"].value == 0
    assert _failed_checks(result) == {}


def test_nothing_is_built_when_archival_fails(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    leave_expired_sessions(database, 3)
    record_metrics(database, 5)
    database.execute("alter function analytics.archive_expired_sessions rename to gone")
    result = _tick(instance, "archive_and_build_schedule")
    assert not result.success
    assert _steps(result, "STEP_FAILURE") == {"archived_sessions"}
    assert _steps(result, "STEP_START") == {"archived_sessions"}
    assert one(database, "select count(*) from marts.daily_session_stats") == 0


def test_a_drift_on_a_day_that_was_built_fails_the_run_and_names_mart_and_day(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    record_metrics(database, 40)
    fold(database, load_marts(Settings.from_environment()), "before")
    day = one(
        database,
        "update marts.daily_tag_counts set occurrences = occurrences + 1 where ctid = "
        "(select min(ctid) from marts.daily_tag_counts) returning activity_date",
    )
    # The day is touched by the next build.
    database.execute("update session_metrics set total_queries = total_queries + 1")
    result = _tick(instance, "archive_and_build_schedule")
    assert not result.success
    assert _steps(result, "STEP_FAILURE") == {"reconciliation"}
    failed = _failed_checks(result)
    assert failed.keys() == {"marts/daily_tag_counts matches_source"}
    metadata = failed["marts/daily_tag_counts matches_source"]
    assert (metadata["mart"], metadata["days"]) == ("daily_tag_counts", str(day))


def test_a_failing_dbt_test_fails_the_run_at_once(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    # Once a mart has a watermark, only what changed is folded into it.
    fold(database, load_marts(Settings.from_environment()), "before")
    database.execute(
        "insert into marts.daily_asset_counts values ('2026-01-01', 'equity', 'AAPL', -1)"
    )
    result = _tick(instance, "archive_and_build_schedule")
    assert not result.success
    assert _steps(result, "STEP_FAILURE") == {"marts"}
    assert _steps(result, "STEP_UP_FOR_RETRY") == set()
    assert "marts/daily_asset_counts daily_asset_counts_counts_are_positive" in _failed_checks(
        result
    )


def test_the_daily_tick_sees_a_drift_on_any_day_and_a_silent_application(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    record_metrics(database, 40, days_ago=60)
    database.execute("update session_metrics set recorded_at = now() - interval '4 days'")
    marts = load_marts(Settings.from_environment())
    fold(database, marts, "before")
    fold(database, marts, "nothing more")
    day = one(
        database,
        "update marts.daily_user_stats set queries = queries + 1 where ctid = "
        "(select min(ctid) from marts.daily_user_stats) returning activity_date",
    )
    result = _tick(instance, "reconcile_all_days_schedule")
    assert not result.success
    failed = _failed_checks(result)
    assert failed.keys() == {
        "marts/daily_user_stats matches_source",
        "archived_sessions sources_are_fresh",
    }
    assert failed["marts/daily_user_stats matches_source"]["days"] == str(day)
    assert failed["archived_sessions sources_are_fresh"]["session_metrics"].startswith("error: ")


def test_a_tick_asks_for_no_run_while_one_has_not_ended(
    database: Connection, instance: dg.DagsterInstance
) -> None:
    definitions = make_definitions(Settings.from_environment())
    repository = definitions.get_repository_def()
    run = instance.create_run_for_job(
        definitions.resolve_job_def("archive_and_build"), status=dg.DagsterRunStatus.STARTED
    )
    with dg.build_schedule_context(instance=instance, repository_def=repository) as context:
        tick = repository.get_schedule_def("archive_and_build_schedule").evaluate_tick(context)
    assert not tick.run_requests
    assert tick.skip_message == f"run {run.run_id} has not ended"


@pytest.mark.parametrize(
    ("results", "has_failed"),
    [
        ('{"results": []}', False),
        ('{"results": [{"status": "error"}, {"status": "skipped"}]}', False),
        ('{"results": [{"status": "pass"}, {"status": "fail"}]}', True),
    ],
)
def test_only_a_test_that_said_no_is_not_tried_again(
    tmp_path: Any, results: str, has_failed: bool
) -> None:
    from orchestration.dbt_assets import has_failed_tests

    assert not has_failed_tests(tmp_path / "run_results.json")
    (tmp_path / "run_results.json").write_text(results)
    assert has_failed_tests(tmp_path / "run_results.json") == has_failed
