"""The jobs, and when they run."""

import dagster as dg

from fiml.settings import Settings
from orchestration.freshness import sources_are_fresh
from orchestration.reconciliation import ReconciliationConfig

__all__ = ["ARCHIVE_AND_BUILD", "RECONCILE_ALL_DAYS", "make_schedules"]

ARCHIVE_AND_BUILD = "archive_and_build"
RECONCILE_ALL_DAYS = "reconcile_all_days"

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def make_schedules(settings: Settings, reconciliation: dg.AssetChecksDefinition) -> dg.Definitions:
    """Two jobs on the settings' cron expressions, in UTC, running from the first start.

    One archives, builds and compares the days that the build touched; the other compares every day.
    """
    freshness = dg.AssetSelection.checks(sources_are_fresh)
    archive_and_build = dg.define_asset_job(
        ARCHIVE_AND_BUILD,
        selection=dg.AssetSelection.all() - freshness,
        description="Archive expired sessions, fold what changed, test and reconcile it.",
    )
    reconcile_all_days = dg.define_asset_job(
        RECONCILE_ALL_DAYS,
        selection=dg.AssetSelection.checks(reconciliation) | freshness,
        config=dg.RunConfig(ops={"reconciliation": ReconciliationConfig(all_days=True)}),
        description="Compare every day of every mart with the source, and judge its freshness.",
    )

    @dg.schedule(
        job=archive_and_build,
        cron_schedule=settings.schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def archive_and_build_schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        """A run, unless the one before has not ended: it would find little left to do."""
        unfinished = context.instance.get_run_records(
            dg.RunsFilter(job_name=ARCHIVE_AND_BUILD, statuses=_UNFINISHED), limit=1
        )
        if unfinished:
            return dg.SkipReason(f"run {unfinished[0].dagster_run.run_id} has not ended")
        return dg.RunRequest()

    return dg.Definitions(
        jobs=[archive_and_build, reconcile_all_days],
        schedules=[
            archive_and_build_schedule,
            dg.ScheduleDefinition(
                job=reconcile_all_days,
                cron_schedule=settings.reconcile_schedule,
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            ),
        ],
    )
