"""Everything Dagster knows, merged."""

import dagster as dg

from fiml.settings import Settings
from orchestration.archival import archived_sessions
from orchestration.dbt_assets import dbt_resource, make_marts
from orchestration.freshness import sources_are_fresh
from orchestration.reconciliation import make_reconciliation
from orchestration.schedules import make_schedules

__all__ = ["defs", "make_definitions"]


def make_definitions(settings: Settings) -> dg.Definitions:
    """The definitions for one project and its schedules; needs no database.

    Raises:
        BuildError: dbt cannot compile the project.
    """
    reconciliation = make_reconciliation(settings)
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[archived_sessions, make_marts(settings)],
            asset_checks=[reconciliation, sources_are_fresh],
            resources={"dbt": dbt_resource(settings)},
            # A run has a process of its own, and its steps follow each other: one more for each
            # step would only take time to start.
            executor=dg.in_process_executor,
        ),
        make_schedules(settings, reconciliation),
        _make_alerts(settings),
    )


def _make_alerts(settings: Settings) -> dg.Definitions:
    """Rules and reports, where there is a file of them."""
    if settings.alerts_file is None:
        return dg.Definitions()
    # What delivers needs an extra of its own.
    from orchestration.alerts import alert_rules, make_reporting

    return dg.Definitions.merge(
        dg.Definitions(asset_checks=[alert_rules]), make_reporting(settings)
    )


defs = make_definitions(Settings.from_environment())
