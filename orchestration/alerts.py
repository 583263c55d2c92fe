"""Alert rules, evaluated after each build, and weekly reports."""

import asyncio

import dagster as dg

from fiml.alerts.evaluation import Evaluation, evaluate
from fiml.alerts.file import load
from fiml.alerts.notices import way
from fiml.alerts.reports import send_reports
from fiml.alerts.wording import plain
from fiml.settings import Settings

__all__ = ["SEND_REPORTS", "alert_rules", "make_reporting"]

SEND_REPORTS = "send_reports"

# The last thing that a build makes and that an answer is made of.
_AFTER = dg.AssetKey(["serving", "session_totals"])


@dg.asset_check(
    asset=_AFTER,
    name="alert_rules",
    description=(
        "No alert rule holds, and every notice of those that do was delivered. A warning: whatever "
        "is wrong with alerts, the build has succeeded."
    ),
)
def alert_rules(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Evaluate every rule; nothing of that fails a run."""
    try:
        evaluation = asyncio.run(evaluate(Settings.from_environment()))
    except Exception as error:  # noqa: BLE001 - a slip here is no reason to do a build again
        context.log.warning("alert rules were not evaluated: %s", plain(str(error)))
        return _result(passed=False, problem=f"{type(error).__name__}: {plain(str(error))}")
    for name in evaluation.fired:
        context.log.warning("fired: %s", name)
    for name in evaluation.over:
        context.log.info("over: %s", name)
    for name, problem in evaluation.unknown.items():
        context.log.warning("not evaluated: %s: %s", name, plain(problem))
    for channel, problem in evaluation.undelivered.items():
        context.log.warning("not delivered by %s: %s", channel, plain(problem))
    return _evaluated(evaluation)


def _evaluated(evaluation: Evaluation) -> dg.AssetCheckResult:
    return _result(
        passed=evaluation.succeeded and not evaluation.holding,
        rules=evaluation.rules,
        holding=", ".join(evaluation.holding) or "none",
        fired=", ".join(evaluation.fired) or "none",
        over=", ".join(evaluation.over) or "none",
        delivered=len(evaluation.delivered),
        unknown=", ".join(evaluation.unknown) or "none",
        undelivered=", ".join(evaluation.undelivered) or "none",
    )


def _result(*, passed: bool, **metadata: str | int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=metadata
    )


@dg.op(description="Send each report that is due and was not sent.")
def send_due_reports(context: dg.OpExecutionContext) -> None:
    """Fail where one could not be delivered: the next tick tries again."""
    sent = asyncio.run(send_reports(Settings.from_environment()))
    for name, week, channel in sent.delivered:
        context.log.info("%s, %s: sent %s", name, week, way(channel))
    if not sent.succeeded:
        raise dg.Failure(
            "; ".join(
                f"{name}, {way(channel)}: {plain(problem)}"
                for (name, channel), problem in sent.undelivered.items()
            )
        )


@dg.job(name=SEND_REPORTS, description="Send the weekly reports that are due.")
def send_reports_job() -> None:
    """One step."""
    send_due_reports()


def make_reporting(settings: Settings) -> dg.Definitions:
    """The job that sends reports, on the settings' cron expression, in UTC."""

    @dg.schedule(
        job=send_reports_job,
        cron_schedule=settings.reports_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        name=f"{SEND_REPORTS}_schedule",
    )
    def send_reports_schedule() -> dg.RunRequest | dg.SkipReason:
        """A run, unless the file has no report."""
        if not load(Settings.from_environment()).reports:
            return dg.SkipReason("the alert file has no reports")
        return dg.RunRequest()

    return dg.Definitions(jobs=[send_reports_job], schedules=[send_reports_schedule])
