"""Whether the application still writes: a check on the source tables."""

import dagster as dg

from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.freshness import source_freshness
from orchestration.archival import ARCHIVED_SESSIONS

__all__ = ["sources_are_fresh"]


@dg.asset_check(
    asset=ARCHIVED_SESSIONS,
    name="sources_are_fresh",
    description=(
        "Metrics were recorded within the thresholds of models/sources, judged by when rows were "
        "written and not by when sessions began: a quiet hour is not a stale source."
    ),
)
def sources_are_fresh() -> dg.AssetCheckResult:
    """Fail where a source is stale; no build stops for that."""
    found = source_freshness(Settings.from_environment().connecting_as(Purpose.BUILDER))
    stale = [freshness for freshness in found if freshness.status != "pass"]
    is_error = any(freshness.status == "error" for freshness in stale)
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        metadata={
            freshness.source: (
                f"{freshness.status}: newest row recorded at {freshness.recorded_at.isoformat()}"
                if freshness.recorded_at
                else f"{freshness.status}: no row yet"
            )
            for freshness in found
        },
    )
