"""Building the marts: one `dbt build`, with progress and a short account of failures.

What keeps two builds from counting a row twice is in PostgreSQL (windows and watermarks), so a
build may run beside any other one, `dbt build` on a command line included.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from fiml.errors import BuildError, SessionAnalyticsError
from fiml.monitoring.spans import past_span, spanning
from fiml.settings import Settings
from fiml.warehouse._connection import connected
from fiml.warehouse._dbt import Event, check_project, dbt_arguments, dbt_environment, run_dbt
from fiml.warehouse.reconcile import reconcile

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["BuildResult", "build", "build_command", "own_target", "result_of", "trace_models"]

_FAILED: Final = frozenset({"error", "fail", "runtime error", "partial success"})
# Nodes that something did: a skipped one waited for a failed one, an exposure has nothing to do.
_DONE: Final = frozenset({"success", "pass", "warn"}) | _FAILED
_HEADLINE: Final = re.compile(
    r"Encountered an error|(Database|Runtime|Compilation|Parsing) Error|.*:$"
)
_NAMED_FAILURES: Final = 5
_MESSAGE_LENGTH: Final = 300
_TARGETS: Final = 64


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes:
        succeeded: every model was built and every test passed.
        failures: what did not, each as "name: reason" on one line.
        seconds: from start to end, dbt's own start included.
        nodes: models built and tests run.
    """

    succeeded: bool
    failures: tuple[str, ...]
    seconds: float
    nodes: int


def build(
    settings: Settings,
    *,
    from_scratch: bool = False,
    on_line: Callable[[str], None] | None = None,
    with_unit_tests: bool = False,
) -> BuildResult:
    """Fold what changed into the marts and test them.

    Ctrl-C cancels what dbt is doing on the server; marts already folded stay folded, and the next
    build goes on from there.

    Args:
        settings: where the database and the project are.
        from_scratch: make every mart again from the source rows, in place: readers see the old rows
            until the new ones are there.
        on_line: receives a line for each model that was built and each test that failed.
        with_unit_tests: run the tests of the SQL itself too, unit tests first of all.

    Raises:
        BuildError: dbt could not run, or a model or test failed; the message names them.
        SchemaVersionError: the database is not migrated, or by another version.
        DatabaseError: the database cannot be reached.
    """
    check_project(settings)
    started = monotonic()
    # Says in a tenth of a second, and plainly, what dbt would say after its start.
    with connected(settings, "session-analytics-build"):
        pass
    errors: list[str] = []

    def hear(event: Event) -> None:
        line = progress_line(event)
        if line is not None and on_line is not None:
            on_line(line)
        if event.level == "error":
            errors.append(reason(event.message))

    project_dir = settings.project_dir.resolve()
    with (
        spanning("build", {"from_scratch": from_scratch}) as span,
        own_target(project_dir) as target,
    ):
        results = target / "run_results.json"
        results.unlink(missing_ok=True)
        code = run_dbt(
            dbt_arguments(
                build_command(from_scratch=from_scratch, with_unit_tests=with_unit_tests),
                project_dir=project_dir,
                target_path=target,
            ),
            dbt_environment(settings),
            project_dir,
            hear,
        )
        run_results = json.loads(results.read_bytes()) if results.exists() else {"results": []}
        if span is not None:
            trace_models(run_results)
        result = result_of(run_results, monotonic() - started)
        if not result.succeeded:
            raise BuildError(_account(result.failures) + _drifts(settings, result.failures))
        if code != 0:
            told = errors[0] if errors else f"dbt ended with exit code {code}"
            raise BuildError(f"the build did not run: {told}")
        return result


def build_command(*, from_scratch: bool = False, with_unit_tests: bool = False) -> list[str]:
    """dbt's command and its selection.

    Unit tests, and tests of what follows from how a view is made, say something about the SQL and
    nothing about the data: they run where the SQL is changed, not with every build.
    """
    command = ["build"]
    if not with_unit_tests:
        command += ["--exclude-resource-type", "unit_test", "--exclude", "tag:by_construction"]
    if from_scratch:
        command += ["--full-refresh"]
    return command


def progress_line(event: Event) -> str | None:
    """What a person wants to hear of an event; None for most."""
    node = event.data.get("node_info") or {}
    name = node.get("node_name", "")
    seconds = float(event.data.get("execution_time") or 0.0)
    status = str(event.data.get("status", "")).lower()
    if event.name == "LogModelResult":
        if status == "error":
            return f"{name} failed after {seconds:.1f} s"
        done = "folded" if node.get("materialized") == "fold" else "built"
        return f"{name} {done} in {seconds:.1f} s"
    if event.name in {"LogTestResult", "LogUnitTestResult"} and status in {"error", "fail"}:
        return f"{name} failed"
    return None


def result_of(run_results: Mapping[str, Any], seconds: float) -> BuildResult:
    """Read dbt's run_results.json."""
    results: Sequence[Mapping[str, Any]] = run_results["results"]
    failed = [result for result in results if result["status"] in _FAILED]
    # Where a hook failed, everything after it failed for that reason.
    hooks = [result for result in failed if _is_hook(result)]
    failures = tuple(_failure(result) for result in hooks or failed)
    nodes = sum(result["status"] in _DONE and not _is_hook(result) for result in results)
    return BuildResult(succeeded=not failures, failures=failures, seconds=seconds, nodes=nodes)


def trace_models(run_results: Mapping[str, Any], build: Span | None = None) -> None:
    """Make a span of what dbt did with each model.

    Args:
        run_results: dbt's run_results.json.
        build: the span of all of it; None takes that of the moment.
    """
    for result in run_results["results"]:
        kind, _, name = str(result["unique_id"]).split(".")[:3]
        times = [timing for timing in result["timing"] if timing.get("completed_at")]
        if kind == "model" and times:
            past_span(
                f"model {name}",
                datetime.fromisoformat(times[0]["started_at"]),
                datetime.fromisoformat(times[-1]["completed_at"]),
                is_failed=result["status"] in _FAILED,
                parent=build,
            )


def _is_hook(result: Mapping[str, Any]) -> bool:
    return str(result["unique_id"]).startswith("operation.")


def _failure(result: Mapping[str, Any]) -> str:
    # "model.<project>.<name>" and "test.<project>.<name>.<hash>".
    name = str(result["unique_id"]).split(".")[2]
    return f"{name}: {reason(str(result.get('message') or result['status']))}"


def reason(message: str) -> str:
    """The line of dbt's message that says what happened; headlines stand above it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if not _HEADLINE.match(line)]
    return (telling or lines or ["no reason given"])[0][:_MESSAGE_LENGTH]


def _account(failures: Sequence[str]) -> str:
    named = "; ".join(failures[:_NAMED_FAILURES])
    more = len(failures) - _NAMED_FAILURES
    return f"the build failed: {named}" + (f"; and {more} more" if more > 0 else "")


def _drifts(settings: Settings, failures: Sequence[str]) -> str:
    if not any("_matches_source: " in failure for failure in failures):
        return ""
    # dbt counts what differs; this names it.
    try:
        drifts = reconcile(settings)
    except SessionAnalyticsError:
        return ""
    return "".join(f"; {drift}" for drift in drifts[:_NAMED_FAILURES])


@contextmanager
def own_target(project_dir: Path) -> Iterator[Path]:
    """A folder for dbt's output that no other build of this project writes at the same time.

    The lowest free one of a row: dbt's parsed state stays in it and makes the next build's start
    two seconds faster. `target` itself is left to dbt on the command line.
    """
    folder = project_dir / "target" / "builds"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What a database says of a failure is in there: nobody else is to read it.
        folder.chmod(0o700)
        for number in range(_TARGETS):
            with (folder / f"{number}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                target = folder / str(number)
                target.mkdir(exist_ok=True)
                yield target
                return
    except PermissionError as error:
        raise BuildError(f"dbt needs to write to {folder}: {error.strerror}") from error
    raise BuildError(f"{_TARGETS} builds of {project_dir} are under way already")
