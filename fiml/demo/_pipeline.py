"""The orchestration's job, run once in this process, with its log in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from fiml.errors import BuildError

if TYPE_CHECKING:
    from dagster import DagsterEvent, EventLogEntry, ExecuteInProcessResult

__all__ = ["PipelineResult", "run_pipeline"]

_REASON_LENGTH: Final = 300
# What dagster-dbt puts before the part that matters.
_DBT_ERRORS: Final = "Errors parsed from dbt logs:"


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a run of the job did.

    Attributes:
        assets: how many were materialized.
        checks: how many asset checks (dbt's tests and the reconciliation) passed.
    """

    assets: int
    checks: int


def run_pipeline(log: Path, on_note: Callable[[str], None]) -> PipelineResult:
    """Archive, build and reconcile, as the schedule does; settings come from the environment.

    Args:
        log: the file that Dagster's and dbt's output is appended to.
        on_note: hears what was done, a few words at a time.

    Raises:
        BuildError: a step or a check failed, or Dagster is not installed.
    """
    with _output_to(log):
        try:
            from dagster import DagsterExecutionInterruptedError, DagsterInstance

            from orchestration.definitions import defs
            from orchestration.schedules import ARCHIVE_AND_BUILD
        except ImportError as error:
            raise BuildError(
                f"{error}; the demo needs everything: pip install 'session-analytics[all]'"
            ) from error
        run_id = str(uuid4())
        with DagsterInstance.ephemeral() as instance:
            instance.add_event_listener(run_id, _listener(on_note))
            try:
                result = defs.resolve_job_def(ARCHIVE_AND_BUILD).execute_in_process(
                    instance=instance, run_id=run_id, raise_on_error=False
                )
            except DagsterExecutionInterruptedError:
                raise KeyboardInterrupt from None
            return _judged(result, log)


def _listener(on_note: Callable[[str], None]) -> Callable[[EventLogEntry], None]:
    def hear(entry: EventLogEntry) -> None:
        event = entry.dagster_event if entry.is_dagster_event else None
        said = _note(event) if event is not None else None
        if said is not None:
            on_note(said)

    return hear


def _note(event: DagsterEvent) -> str | None:
    if event.event_type_value == "ASSET_MATERIALIZATION":
        return f"{event.asset_key.path[-1]} done" if event.asset_key else None
    if event.event_type_value == "STEP_UP_FOR_RETRY":
        return f"{event.step_key} failed and is tried again"
    if event.event_type_value == "STEP_FAILURE":
        return f"{event.step_key} failed"
    return None


def _judged(result: ExecuteInProcessResult, log: Path) -> PipelineResult:
    checks = result.get_asset_check_evaluations()
    failures = [
        f"{check.asset_key.path[-1]}: check {check.check_name} failed"
        for check in checks
        if not check.passed and check.severity.value == "ERROR"
    ] + [
        f"{event.step_key}: {_reason(event)}"
        for event in result.filter_events(lambda event: event.event_type_value == "STEP_FAILURE")
    ]
    if failures or not result.success:
        named = "; ".join(failures) if failures else "no step says why"
        raise BuildError(f"the Dagster run failed: {named}; its log is {log}")
    materialized = result.filter_events(
        lambda event: event.event_type_value == "ASSET_MATERIALIZATION"
    )
    return PipelineResult(assets=len(materialized), checks=len(checks))


def _reason(event: DagsterEvent) -> str:
    error = event.step_failure_data.error
    # Dagster wraps what was raised; the innermost one says what happened.
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "no reason given"
    _, _, told_by_dbt = error.message.partition(_DBT_ERRORS)
    return " ".join((told_by_dbt or error.message).split())[:_REASON_LENGTH]


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what this process and its children print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        with log.open("ab") as file:
            for descriptor in kept:
                os.dup2(file.fileno(), descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)
