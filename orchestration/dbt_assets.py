"""The dbt project as assets, with its tests as checks."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from packaging.version import Version

from fiml.monitoring.otlp import sending_spans
from fiml.monitoring.spans import past_span
from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse._dbt import connection_environment
from fiml.warehouse.builds import build_command, own_target, result_of, trace_models
from fiml.warehouse.project import manifest_path
from orchestration.archival import ARCHIVED_SESSIONS

__all__ = ["Dbt", "MartTranslator", "dbt_resource", "make_marts"]

# What a build that stopped looks like: with the default schedule, eight builds that did not come.
_WARN_AFTER = timedelta(hours=2)
_FAIL_AFTER = timedelta(hours=24)

# A lost connection is worth another try.
_RETRIES = 2
_RETRY_SECONDS = 10

# Reconciliation is a check of its own (reconciliation.py), which names the days. What follows from
# how a view is made is tested where the SQL is changed.
_EXCLUDED = "tag:reconciliation tag:by_construction"


class MartTranslator(DagsterDbtTranslator):
    """Where dbt's nodes stand among the assets."""

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """Every source is the asset after archival, so that archival precedes every model.

        A source with a key of its own would be an external asset, and order would end at it.
        """
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("source."):
            return spec.replace_attributes(key=ARCHIVED_SESSIONS)
        node = self.get_resource_props(manifest, unique_id)
        return spec.replace_attributes(
            group_name=node["schema"],
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=_FAIL_AFTER, warn_window=_WARN_AFTER
            ),
        ).merge_attributes(metadata={"dagster/table_name": f"{node['schema']}.{node['alias']}"})


class Dbt(DbtCliResource):
    """The dbt of this environment, on the settings' database."""

    @cached_property
    def _cli_version(self) -> Version:
        # The base class runs `dbt --version`, which asks the package index for newer versions.
        return Version(version("dbt-core"))

    @contextmanager
    def connected(self, settings: Settings) -> Iterator[None]:
        """The settings' connection in this process's environment, from which dbt is started.

        Raises:
            SettingsError: dbt cannot be told the connection.
        """
        before = dict(os.environ)
        given = connection_environment(settings, before)
        changed = [
            name for name in before.keys() | given.keys() if before.get(name) != given.get(name)
        ]
        _set_variables({name: given.get(name) for name in changed})
        try:
            yield
        finally:
            _set_variables({name: before.get(name) for name in changed})


def _set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def dbt_resource(settings: Settings) -> Dbt:
    """The dbt beside this Python, wherever PATH points."""
    return Dbt(
        project_dir=str(settings.project_dir),
        profiles_dir=str(settings.project_dir),
        dbt_executable=str(Path(sys.executable).parent / "dbt"),
        global_config_flags=["--no-use-colors", "--log-level-file", "none"],
    )


def make_marts(settings: Settings) -> dg.AssetsDefinition:
    """The marts, folded by one `dbt build`.

    Raises:
        BuildError: dbt cannot compile the project.
    """

    @dbt_assets(
        manifest=manifest_path(settings),
        name="marts",
        exclude=_EXCLUDED,
        dagster_dbt_translator=MartTranslator(
            DagsterDbtTranslatorSettings(
                enable_duplicate_source_asset_keys=True, enable_source_tests_as_checks=True
            )
        ),
    )
    def marts(context: dg.AssetExecutionContext, dbt: Dbt) -> Iterator[Any]:
        now = Settings.from_environment().connecting_as(Purpose.BUILDER)
        with sending_spans(now), own_target(now.project_dir.resolve()) as target:
            began = datetime.now(UTC)
            (target / "run_results.json").unlink(missing_ok=True)
            with dbt.connected(now):
                invocation = dbt.cli(
                    build_command(), context=context.op_execution_context, target_path=target
                )
            try:
                yield from invocation.stream()
            except DagsterDbtCliRuntimeError as error:
                if has_failed_tests(target / "run_results.json"):
                    raise
                raise dg.RetryRequested(_RETRIES, _RETRY_SECONDS) from error
            finally:
                _trace(target / "run_results.json", began)

    return marts


def _trace(run_results: Path, began: datetime) -> None:
    """Make spans of the build and its models, if anybody traces."""
    results = json.loads(run_results.read_bytes()) if run_results.exists() else {"results": []}
    is_failed = not result_of(results, 0.0).succeeded or not results["results"]
    span = past_span("build", began, datetime.now(UTC), is_failed=is_failed)
    if span is not None:
        trace_models(results, span)


def has_failed_tests(run_results: Path) -> bool:
    """Whether a test said that something is wrong: it would say so again, whatever is retried."""
    if not run_results.exists():
        return False
    results = json.loads(run_results.read_bytes())["results"]
    return any(result["status"] == "fail" for result in results)
