"""The compiled project: fast, without a database, and free of anything that varies."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from spreading import every

from fiml.errors import BuildError
from fiml.sessions.roles._handover import BUILT_VIEWS
from fiml.settings import Settings
from fiml.warehouse.project import compiled, load_marts, manifest_path

NOWHERE = Settings(conninfo="host=127.0.0.1 port=1 dbname=nowhere")


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(NOWHERE.project_dir / name, tmp_path)
    for folder in ("models", "macros", "tests/dbt"):
        shutil.copytree(NOWHERE.project_dir / folder, tmp_path / folder)
    return tmp_path


def test_the_marts_are_those_that_migrations_made() -> None:
    assert {
        mart.name: (mart.unique_key, mart.columns[len(mart.unique_key) :])
        for mart in load_marts(NOWHERE)
    } == {
        "daily_asset_counts": (("activity_date", "session_type", "symbol"), ("occurrences",)),
        "daily_query_type_counts": (("activity_date", "session_type", "query_type"), ("queries",)),
        "daily_session_stats": (
            ("activity_date", "session_type"),
            (
                "sessions",
                "queries",
                "duration_seconds",
                "abandoned_sessions",
                "completed_sessions",
                "archived_sessions",
                "set_aside_values",
            ),
        ),
        "daily_tag_counts": (("activity_date", "session_type", "tag"), ("occurrences",)),
        "daily_user_stats": (
            ("activity_date", "user_key", "session_type"),
            (
                "sessions",
                "queries",
                "duration_seconds",
                "abandoned_sessions",
                "completed_sessions",
                "archived_sessions",
            ),
        ),
        "session_totals": (
            ("scope_id", "level", "starts_at"),
            (
                "stamp",
                "sessions",
                "queries",
                "duration_seconds",
                "abandoned_sessions",
                "archived_sessions",
                "set_aside_values",
                "open_sessions",
                "settled",
                "added",
            ),
        ),
    }


def test_every_mart_has_a_reconciliation() -> None:
    project = compiled(NOWHERE)
    assert [test.mart for test in project.reconciliations] == [mart.name for mart in project.marts]


def test_every_view_is_known_to_who_hands_it_over() -> None:
    assert sorted(view.name for view in compiled(NOWHERE).views) == BUILT_VIEWS


def test_the_text_depends_neither_on_the_connection_nor_on_the_run() -> None:
    elsewhere = replace(NOWHERE, conninfo="host=elsewhere user=somebody dbname=other")
    assert compiled(elsewhere) == compiled(NOWHERE)
    for mart in load_marts(NOWHERE):
        assert "nowhere" not in mart.compiled_code
        assert "any_database" not in mart.compiled_code


def test_it_is_read_without_dbt_when_nothing_changed() -> None:
    compiled(NOWHERE)
    script = (
        "import sys, time\n"
        "from fiml.settings import Settings\n"
        "from fiml.warehouse.project import load_marts\n"
        "started = time.perf_counter()\n"
        "load_marts(Settings())\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'dbt'))\n"
        "print(time.perf_counter() - started)\n"
    )
    modules, seconds = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert modules == "[]"
    # Milliseconds, but for the load of the machine; a compilation takes seconds.
    assert float(seconds) < 0.5


@every(2)
def test_a_changed_model_is_compiled_again_and_the_source_schema_counts(project_dir: Path) -> None:
    settings = replace(NOWHERE, project_dir=project_dir, source_schema="application")
    before = {mart.name: mart.compiled_code for mart in load_marts(settings)}
    assert '"application"."session_metrics"' in before["daily_tag_counts"]
    model = project_dir / "models/marts/daily_tag_counts.sql"
    model.write_text(model.read_text().replace("<> 0", "!= 0"))
    after = {mart.name: mart.compiled_code for mart in load_marts(settings)}
    assert {name for name in after if after[name] != before[name]} == {"daily_tag_counts"}


def test_a_model_that_does_not_compile_is_one_clear_sentence(project_dir: Path) -> None:
    (project_dir / "models/marts/daily_tag_counts.sql").write_text("select {{ ref('nothing') }}")
    with pytest.raises(BuildError, match=r"dbt cannot compile the project: .*nothing"):
        load_marts(replace(NOWHERE, project_dir=project_dir))


def test_a_folder_without_a_project_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="SESSION_ANALYTICS_PROJECT_DIR"):
        load_marts(replace(NOWHERE, project_dir=tmp_path))


def test_the_manifest_is_there_without_a_database() -> None:
    assert manifest_path(NOWHERE).exists()
