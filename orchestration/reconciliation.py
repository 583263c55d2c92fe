"""The marts against the source: a check of each mart, which names the days that differ."""

from collections.abc import Iterator, Sequence

import dagster as dg

from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import Drift, reconcile

__all__ = ["MATCHES_SOURCE", "ReconciliationConfig", "make_reconciliation"]

MATCHES_SOURCE = "matches_source"
_NAMED_DRIFTS = 50


class ReconciliationConfig(dg.Config):
    """What to compare.

    Attributes:
        all_days: every day from the retention horizon on, not only those of the last build.
    """

    all_days: bool = False


def make_reconciliation(settings: Settings) -> dg.AssetChecksDefinition:
    """One check for each mart; a drift fails the run.

    Raises:
        BuildError: dbt cannot compile the project.
    """
    keys = {mart.name: dg.AssetKey([mart.schema, mart.name]) for mart in load_marts(settings)}

    @dg.multi_asset_check(
        name="reconciliation",
        specs=[
            dg.AssetCheckSpec(
                MATCHES_SOURCE,
                asset=key,
                description=(
                    "What the mart holds plus the feed rows it has not seen is what the source "
                    "rows add up to, day by day."
                ),
                # A check that does not block leaves the run green.
                blocking=True,
            )
            for key in keys.values()
        ],
    )
    def reconciliation(
        context: dg.AssetCheckExecutionContext, config: ReconciliationConfig
    ) -> Iterator[dg.AssetCheckResult]:
        settings = Settings.from_environment().connecting_as(Purpose.BUILDER)
        drifts = reconcile(settings, all_days=config.all_days)
        for drift in drifts[:_NAMED_DRIFTS]:
            context.log.error(str(drift))
        for name, key in keys.items():
            yield _result(key, [drift for drift in drifts if drift.mart == name], config)

    return reconciliation


def _result(
    key: dg.AssetKey, drifts: Sequence[Drift], config: ReconciliationConfig
) -> dg.AssetCheckResult:
    days = sorted({drift.activity_date.isoformat() for drift in drifts})
    return dg.AssetCheckResult(
        check_name=MATCHES_SOURCE,
        asset_key=key,
        passed=not drifts,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "mart": key.path[-1],
            "compared": "every day" if config.all_days else "the days touched of late",
            "days": ", ".join(days) or "none differs",
            "drifts": dg.MetadataValue.md(
                "\n".join(f"- {drift}" for drift in drifts[:_NAMED_DRIFTS]) or "none"
            ),
        },
    )
