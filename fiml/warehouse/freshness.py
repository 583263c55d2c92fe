"""Whether the application still writes: `dbt source freshness`, by when rows were recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from fiml.errors import BuildError
from fiml.settings import Settings
from fiml.warehouse._dbt import Event, check_project, dbt_arguments, dbt_environment, run_dbt
from fiml.warehouse.builds import own_target, reason

__all__ = ["Freshness", "source_freshness"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a source's newest row is, against the thresholds in `models/sources`.

    Attributes:
        source: the table's name.
        status: "pass", "warn" or "error".
        recorded_at: when the newest row was recorded; None where there is none.
        age_seconds: how long ago that was; None where there is no row.
    """

    source: str
    status: Literal["pass", "warn", "error"]
    recorded_at: datetime | None
    age_seconds: float | None


def source_freshness(settings: Settings) -> list[Freshness]:
    """The freshness of every source that has thresholds.

    Raises:
        BuildError: dbt could not run, or could not ask the database.
    """
    check_project(settings)
    errors: list[str] = []

    def remember(event: Event) -> None:
        if event.level == "error":
            errors.append(reason(event.message))

    project_dir = settings.project_dir.resolve()
    with own_target(project_dir) as target:
        answer = target / "sources.json"
        answer.unlink(missing_ok=True)
        # Its exit code is 1 for a stale source too: what counts is in the answer.
        run_dbt(
            dbt_arguments(["source", "freshness"], project_dir=project_dir, target_path=target),
            dbt_environment(settings),
            project_dir,
            remember,
        )
        parsed = json.loads(answer.read_bytes()) if answer.exists() else {"results": []}
    results = parsed["results"]
    if not results or any(result["status"] == "runtime error" for result in results):
        told = errors[0] if errors else "dbt gave no answer"
        raise BuildError(f"freshness is not known: {told}")
    return [_freshness(result) for result in results]


def _freshness(result: Mapping[str, Any]) -> Freshness:
    recorded_at = datetime.fromisoformat(result["max_loaded_at"])
    # dbt's word for an empty table: the year 1.
    is_empty = recorded_at.year == 1
    return Freshness(
        source=str(result["unique_id"]).rpartition(".")[2],
        status=cast("Literal['pass', 'warn', 'error']", result["status"]),
        recorded_at=None if is_empty else recorded_at,
        age_seconds=None if is_empty else float(result["max_loaded_at_time_ago_in_s"]),
    )
