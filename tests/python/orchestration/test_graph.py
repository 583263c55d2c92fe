"""What Dagster knows, exactly: a wrong key silently becomes an external asset."""

import json
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from fiml.settings import Settings
from fiml.warehouse.project import manifest_path
from orchestration.definitions import make_definitions

ONE_DAY = timedelta(days=1)
NOWHERE = Settings(conninfo="host=127.0.0.1 port=1 dbname=nowhere")
TABLES = {
    "marts/daily_asset_counts",
    "marts/daily_query_type_counts",
    "marts/daily_session_stats",
    "marts/daily_tag_counts",
    "marts/daily_user_stats",
    "serving/session_totals",
}
# Views of a mart, which is made before them.
DIMENSIONS = {"marts/dim_date", "marts/dim_session_type"}
VIEWS_OF_KEYS = DIMENSIONS | {"marts/dim_user"}
MARTS = TABLES | VIEWS_OF_KEYS | {"marts/fct_sessions"}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return make_definitions(NOWHERE)


def _edges(definitions: dg.Definitions) -> dict[str, set[str]]:
    return {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in definitions.resolve_all_asset_specs()
    }


def _checks(definitions: dg.Definitions, job: str) -> set[str]:
    keys = definitions.resolve_job_def(job).asset_layer.asset_graph.asset_check_keys
    return {f"{key.asset_key.to_user_string()} {key.name}" for key in keys}


def _steps(definitions: dg.Definitions, job: str) -> dict[str, set[str]]:
    graph = definitions.resolve_job_def(job).graph
    return {
        node.name: {
            handle.node_name
            for handles in graph.dependency_structure.input_to_upstream_outputs_for_node(
                node.name
            ).values()
            for handle in handles
        }
        for node in graph.nodes
    }


def test_archival_precedes_every_model_and_a_mart_precedes_what_views_it(
    definitions: dg.Definitions,
) -> None:
    assert _edges(definitions) == {
        "archived_sessions": set(),
        **{mart: {"archived_sessions"} for mart in MARTS - DIMENSIONS},
        **{view: {"marts/daily_session_stats"} for view in DIMENSIONS},
    }


def test_every_asset_is_made_by_a_step_of_ours(definitions: dg.Definitions) -> None:
    made = {
        key.to_user_string(): asset.node_def.name
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for key in asset.keys
    }
    assert made == {"archived_sessions": "archived_sessions", **dict.fromkeys(MARTS, "marts")}


def test_the_job_archives_then_builds_then_reconciles(definitions: dg.Definitions) -> None:
    assert _steps(definitions, "archive_and_build") == {
        "archived_sessions": set(),
        "marts": {"archived_sessions"},
        "reconciliation": {"marts"},
    }


def test_dbts_tests_are_checks_and_unit_tests_and_its_reconciliation_are_not(
    definitions: dg.Definitions,
) -> None:
    checks = _checks(definitions, "archive_and_build")
    manifest = json.loads(manifest_path(NOWHERE).read_bytes())
    tests = {
        node["name"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        and not {"reconciliation", "by_construction"} & set(node["tags"])
    }
    assert manifest["unit_tests"]
    assert {check.partition(" ")[2] for check in checks} == tests | {"matches_source"}
    assert {check.partition(" ")[0] for check in checks} == MARTS - VIEWS_OF_KEYS
    assert {
        "marts/daily_asset_counts daily_asset_counts_counts_are_positive",
        "marts/daily_session_stats daily_session_stats_holds_no_empty_row",
        "marts/fct_sessions fct_sessions_figures_are_in_range",
    } <= checks
    assert {check for check in checks if "matches_source" in check} == {
        f"{mart} matches_source" for mart in TABLES
    }


def test_the_daily_job_compares_every_day_and_judges_freshness(
    definitions: dg.Definitions,
) -> None:
    assert _steps(definitions, "reconcile_all_days") == {
        "archived_sessions_sources_are_fresh": set(),
        "reconciliation": set(),
    }
    job = definitions.resolve_job_def("reconcile_all_days")
    assert job.run_config["ops"] == {"reconciliation": {"config": {"all_days": True}}}


def test_reconciliation_blocks_so_that_a_drift_fails_the_run(definitions: dg.Definitions) -> None:
    [reconciliation] = [
        checks
        for checks in definitions.asset_checks or ()
        if isinstance(checks, dg.AssetsDefinition) and checks.node_def.name == "reconciliation"
    ]
    assert {spec.blocking for spec in reconciliation.check_specs} == {True}


def test_a_mart_that_is_no_longer_built_is_overdue(definitions: dg.Definitions) -> None:
    policies = {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in definitions.resolve_all_asset_specs()
    }
    assert policies.pop("archived_sessions") is None
    assert policies.keys() == MARTS
    for policy in policies.values():
        assert isinstance(policy, type(dg.FreshnessPolicy.time_window(ONE_DAY)))
        assert policy.fail_window.to_timedelta() == ONE_DAY


def test_a_mart_is_named_as_in_the_database(definitions: dg.Definitions) -> None:
    names = {
        spec.key.to_user_string(): spec.metadata.get("dagster/table_name")
        for spec in definitions.resolve_all_asset_specs()
    }
    assert {names[mart] for mart in MARTS} == {mart.replace("/", ".") for mart in MARTS}


def test_both_schedules_run_from_the_first_start_as_the_settings_say() -> None:
    settings = replace(NOWHERE, schedule="*/5 * * * *", reconcile_schedule="1 2 * * *")
    found = {
        schedule.name: (
            schedule.job_name,
            schedule.cron_schedule,
            schedule.execution_timezone,
            schedule.default_status,
        )
        for schedule in make_definitions(settings).schedules or ()
        if isinstance(schedule, dg.ScheduleDefinition)
    }
    running = dg.DefaultScheduleStatus.RUNNING
    assert found == {
        "archive_and_build_schedule": ("archive_and_build", "*/5 * * * *", "UTC", running),
        "reconcile_all_days_schedule": ("reconcile_all_days", "1 2 * * *", "UTC", running),
    }
