"""The dbt project as other code needs it: the SQL of its marts, views and reconciliation tests.

dbt compiles it, without a database, whenever a file of the project changed; what it made is kept
under `target/project`, so that anybody else gets it by reading one small file. The SQL names no
database and nothing of a run: it is the same for every database that has the project's schemas.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from fiml.errors import BuildError
from fiml.settings import Settings
from fiml.warehouse._dbt import Event, check_project, dbt_arguments, dbt_environment, run_dbt

__all__ = [
    "ANY_DATABASE",
    "CompiledProject",
    "Mart",
    "Reconciliation",
    "View",
    "compiled",
    "load_marts",
    "manifest_path",
]

_SOURCES: Final = ("models", "macros", "tests/dbt")
_RECONCILIATION: Final = "reconciliation"
# dbt writes the database into every relation's name. This one stands for all of them, and goes.
ANY_DATABASE: Final = "session_analytics_any_database"
# Compiled versions that are kept: other branches, other source schemas.
_KEPT_VERSIONS: Final = 8
_MANIFEST: Final = ".manifest.json"


@dataclass(frozen=True, slots=True)
class Mart:
    """A mart that is folded.

    Attributes:
        schema: the schema of its table: `marts`, or `serving`.
        name: its table.
        unique_key: its key columns.
        columns: all its columns in their order; those that are no key are sums, unless
        on_conflict: says how a column of a row that exists becomes the new one.
        compiled_code: the delta to add, as one SELECT without parameters; it reads the bounds of
            the fold that the transaction has begun.
    """

    schema: str
    name: str
    unique_key: tuple[str, ...]
    columns: tuple[str, ...]
    on_conflict: dict[str, str]
    compiled_code: str


@dataclass(frozen=True, slots=True)
class View:
    """A view that dbt keeps; in the order of the list each reads only those before it."""

    schema: str
    name: str
    compiled_code: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A test of one mart against the source: a SELECT that returns what differs.

    Attributes:
        mart: the mart compared.
        keys: the result's key columns; `expected_*` and `found_*` columns follow them.
        compiled_code: one SELECT without parameters.
    """

    mart: str
    keys: tuple[str, ...]
    compiled_code: str


@dataclass(frozen=True, slots=True)
class CompiledProject:
    """What dbt made of the project's files."""

    marts: tuple[Mart, ...]
    views: tuple[View, ...]
    reconciliations: tuple[Reconciliation, ...]


def load_marts(settings: Settings) -> tuple[Mart, ...]:
    """The marts that are folded, by name.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
    """
    return compiled(settings).marts


def compiled(settings: Settings) -> CompiledProject:
    """The project's SQL; a second or more where its files changed, else a few milliseconds.

    Needs no database. Any number of processes may call it at once: one compiles.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
    """
    return _kept(settings)[0]


def manifest_path(settings: Settings) -> Path:
    """dbt's manifest.json of the project as it is now; made as `compiled` makes its own.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
    """
    return _kept(settings)[1]


def _kept(settings: Settings) -> tuple[CompiledProject, Path]:
    project_dir = settings.project_dir.resolve()
    if not (project_dir / "dbt_project.yml").is_file():
        check_project(settings)
    folder = project_dir / "target" / "project"
    kept = folder / f"{_fingerprint(project_dir, settings.source_schema)}.json"
    manifest = kept.with_suffix(_MANIFEST)
    found = _read(kept, manifest)
    if found is not None:
        return found, manifest
    check_project(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            found = _read(kept, manifest)
            if found is None:
                parsed = _compile(settings, folder / "compile")
                found = _project_of(parsed)
                _write(manifest, parsed)
                _write(kept, asdict(found))
                _forget_old_versions(folder)
    except OSError as error:
        raise BuildError(
            f"the compiled project cannot be kept in {folder}: {error.strerror}"
        ) from error
    return found, manifest


def _fingerprint(project_dir: Path, source_schema: str) -> str:
    # What is kept is what this module makes of the project's files.
    digest = sha256(Path(__file__).read_bytes())
    for part in (_dbt_version(), source_schema):
        digest.update(f"{part}\0".encode())
    for path in _files(project_dir):
        digest.update(f"{path.relative_to(project_dir)}\0".encode())
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


@lru_cache(maxsize=1)
def _dbt_version() -> str:
    try:
        return version("dbt-core")
    except PackageNotFoundError:
        return ""


def _files(project_dir: Path) -> list[Path]:
    found = [project_dir / "dbt_project.yml", project_dir / "profiles.yml"]
    for folder in _SOURCES:
        found += (
            path
            for path in (project_dir / folder).rglob("*")
            if path.suffix in {".sql", ".yml", ".md"} and path.is_file()
        )
    return sorted(found)


def _read(kept: Path, manifest: Path) -> CompiledProject | None:
    if not manifest.exists():
        return None
    try:
        parsed = json.loads(kept.read_text(encoding="utf-8"))
        return CompiledProject(
            marts=tuple(Mart(**_as_tuples(mart)) for mart in parsed["marts"]),
            views=tuple(View(**view) for view in parsed["views"]),
            reconciliations=tuple(
                Reconciliation(**_as_tuples(test)) for test in parsed["reconciliations"]
            ),
        )
    except (OSError, ValueError, TypeError, KeyError):
        # Not there, or written by another version of this module.
        return None


def _as_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }


def _write(kept: Path, content: Mapping[str, Any]) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=kept.parent, suffix=".tmp", delete=False
    ) as file:
        json.dump(content, file)
    made = Path(file.name)
    made.chmod(0o644)
    made.replace(kept)


def _forget_old_versions(folder: Path) -> None:
    by_age = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[2 * _KEPT_VERSIONS :]:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(settings: Settings, target: Path) -> dict[str, Any]:
    # Nothing of the caller's connection: the text must not depend on it, nor dbt's parsed state.
    somewhere = Settings(
        conninfo=f"host=127.0.0.1 port=1 user=nobody dbname={ANY_DATABASE}",
        source_schema=settings.source_schema,
        project_dir=settings.project_dir,
    )
    project_dir = settings.project_dir.resolve()
    env = dbt_environment(
        somewhere, {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    )
    errors: list[Event] = []

    def remember(event: Event) -> None:
        if event.level == "error":
            errors.append(event)

    arguments = dbt_arguments(
        ["compile", "--no-introspect", "--no-populate-cache"],
        project_dir=project_dir,
        target_path=target,
    )
    try:
        code = run_dbt(arguments, env, project_dir, remember)
        if code != 0:
            told = " ".join(errors[0].message.split()) if errors else f"exit code {code}"
            raise BuildError(f"dbt cannot compile the project: {told[:400]}")
        manifest: dict[str, Any] = json.loads((target / "manifest.json").read_bytes())
    finally:
        # The parsed state makes the next compilation faster; nobody reads the rest.
        for rest in ("compiled", "run"):
            shutil.rmtree(target / rest, ignore_errors=True)
    return manifest


def _project_of(manifest: Mapping[str, Any]) -> CompiledProject:
    nodes: dict[str, Any] = manifest["nodes"]
    models = [node for node in nodes.values() if node["resource_type"] == "model"]
    folded = {
        node["unique_id"]: Mart(
            schema=node["schema"],
            name=node["name"],
            unique_key=tuple(node["config"]["unique_key"]),
            columns=tuple(node["columns"]),
            on_conflict=dict(node["config"].get("on_conflict") or {}),
            compiled_code=_for_any_database(node["compiled_code"]),
        )
        for node in models
        if node["config"]["materialized"] == "fold"
    }
    reconciliations = [
        Reconciliation(
            mart=mart.name,
            keys=tuple(node["config"]["meta"].get("keys") or mart.unique_key),
            compiled_code=_for_any_database(node["compiled_code"]),
        )
        for node in nodes.values()
        if node["resource_type"] == "test" and _RECONCILIATION in node["tags"]
        for mart in (folded[name] for name in node["depends_on"]["nodes"] if name in folded)
    ]
    return CompiledProject(
        marts=tuple(sorted(folded.values(), key=lambda mart: mart.name)),
        views=tuple(_views(models)),
        reconciliations=tuple(sorted(reconciliations, key=lambda test: test.mart)),
    )


def _views(models: list[dict[str, Any]]) -> Iterator[View]:
    waiting = {
        node["unique_id"]: node
        for node in sorted(models, key=lambda node: str(node["name"]))
        if node["config"]["materialized"] == "view"
    }
    while waiting:
        ready = [
            name
            for name, node in waiting.items()
            if not any(other in waiting for other in node["depends_on"]["nodes"])
        ]
        for name in ready:
            node = waiting.pop(name)
            yield View(node["schema"], node["name"], _for_any_database(node["compiled_code"]))


def _for_any_database(compiled_code: str) -> str:
    code = compiled_code.replace(f'"{ANY_DATABASE}".', "").strip()
    if ANY_DATABASE in code:
        raise BuildError("a model's SQL names its database elsewhere than before a relation")
    return code
