"""The marts as people read them: their dictionary in docs/marts.md, and dbt's pages as one file.

Both come from the compiled project, without a database and without a network.
`python -m fiml.warehouse.documentation`, which is `make docs`, writes them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click

from fiml.errors import BuildError, SessionAnalyticsError
from fiml.settings import Settings
from fiml.warehouse._dbt import Event, dbt_arguments, dbt_environment, run_dbt
from fiml.warehouse.project import ANY_DATABASE, manifest_path

__all__ = ["Relationship", "dictionary", "load_manifest", "relationships", "write_pages"]

BEGIN: Final = "<!-- marts: written by `make docs` -->"
END: Final = "<!-- end of marts -->"
_PAGE: Final = "marts.md"
_SITE: Final = Path("target", "docs")
_SCHEMA: Final = "marts"
_DATABASE: Final = "session_analytics"
_REFERRED: Final = re.compile(r"ref\('(\w+)'\)")


@dataclass(frozen=True, slots=True, order=True)
class Relationship:
    """A column of a mart whose values are those of a dimension's key, as a test declares."""

    mart: str
    column: str
    dimension: str
    field: str


def load_manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest of the project, with a name in the place of the database's.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
    """
    text = manifest_path(settings).read_text(encoding="utf-8")
    manifest: dict[str, Any] = json.loads(text.replace(ANY_DATABASE, _DATABASE))
    for node in manifest["nodes"].values():
        # A path of this machine.
        node.pop("compiled_path", None)
    return manifest


def relationships(manifest: Mapping[str, Any]) -> list[Relationship]:
    """What joins what, as the project's tests declare it."""
    found = []
    for node, arguments in _tests(manifest):
        dimension = _REFERRED.fullmatch(arguments.get("to", ""))
        if dimension is not None:
            mart = manifest["nodes"][node["attached_node"]]["name"]
            found.append(
                Relationship(mart, arguments["column_name"], dimension.group(1), arguments["field"])
            )
    return sorted(found)


def dictionary(manifest: Mapping[str, Any]) -> str:
    """How the marts relate, and a table of each one's columns, in Markdown."""
    joins = relationships(manifest)
    keys = _keys(manifest)
    parts = [_diagram(joins)]
    for model in _marts(manifest):
        name = model["name"]
        dimensions = {join.column: join.dimension for join in joins if join.mart == name}
        parts.append(_section(model, keys[name], dimensions))
    return "\n\n".join(parts)


def write_pages(settings: Settings, docs: Path, site: Path) -> list[Path]:
    """Write the dictionary into `docs`, dbt's pages into `site`, and return both files.

    Raises:
        BuildError: dbt cannot compile the project, or one of them is not there.
        OSError: a file cannot be written.
    """
    manifest = load_manifest(settings)
    page = docs / _PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{dictionary(manifest)}\n{END}{after}", encoding="utf-8")
    return [page, _write_site(settings, manifest, site)]


def _tests(manifest: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The tests of models that take arguments, with these."""
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and node.get("test_metadata"):
            yield node, node["test_metadata"]["kwargs"]


def _models(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that stand in the database: the others have no contract."""
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model" and node["config"]["contract"]["enforced"]:
            yield node


def _marts(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return sorted(
        (node for node in _models(manifest) if node["schema"] == _SCHEMA),
        key=lambda node: str(node["name"]),
    )


def _keys(manifest: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The columns that tell the rows of a model apart, by its name: there is a test of them."""
    keys = {}
    for node, arguments in _tests(manifest):
        if node["test_metadata"]["name"] in {"unique", "unique_together"}:
            model = manifest["nodes"][node["attached_node"]]["name"]
            keys[model] = arguments.get("columns") or [arguments["column_name"]]
    return keys


def _diagram(joins: Sequence[Relationship]) -> str:
    lines = ["```mermaid", "erDiagram"]
    for (mart, dimension), columns in groupby(joins, lambda join: (join.mart, join.dimension)):
        named = ", ".join(join.column for join in columns)
        lines.append(f'    {dimension} ||--o{{ {mart} : "{named}"')
    return "\n".join([*lines, "```"])


def _section(model: Mapping[str, Any], key: Sequence[str], dimensions: Mapping[str, str]) -> str:
    kind = "A view, live." if model["config"]["materialized"] == "view" else "A table, folded."
    lines = [
        f"## {model['name']}",
        "",
        f"{_one_line(model['description'])}",
        "",
        f"{kind} Key: {', '.join(f'`{column}`' for column in key)}.",
        "",
        "| column | type | joins | meaning |",
        "|---|---|---|---|",
    ]
    for column in model["columns"].values():
        name = column["name"]
        joined = f"`{dimensions[name]}`" if name in dimensions else ""
        meaning = _one_line(column["description"]).replace("|", "\\|")
        lines.append(f"| `{name}` | {column['data_type']} | {joined} | {meaning} |")
    return "\n".join(lines)


def _one_line(description: str) -> str:
    return " ".join(description.split())


def _write_site(settings: Settings, manifest: Mapping[str, Any], site: Path) -> Path:
    errors: list[Event] = []

    def remember(event: Event) -> None:
        if event.level == "error":
            errors.append(event)

    project_dir = settings.project_dir.resolve()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        # What dbt would compile for its pages, which needs a database.
        (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        code = run_dbt(
            dbt_arguments(
                ["docs", "generate", "--static", "--no-compile", "--empty-catalog"],
                project_dir=project_dir,
                target_path=target,
            ),
            dbt_environment(settings),
            project_dir,
            remember,
        )
        if code != 0:
            told = " ".join(errors[0].message.split()) if errors else f"exit code {code}"
            raise BuildError(f"dbt cannot write its pages: {told[:400]}")
        text = (target / "static_index.html").read_text(encoding="utf-8")
        empty = (target / "catalog.json").read_text(encoding="utf-8")
    if text.count(empty) != 1:
        raise BuildError("dbt's page does not hold the catalog that dbt wrote beside it")
    site.mkdir(parents=True, exist_ok=True)
    page = site / "index.html"
    catalog = {**json.loads(empty), "nodes": _catalog(manifest)}
    page.write_text(text.replace(empty, json.dumps(catalog)), encoding="utf-8")
    return page


def _catalog(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What dbt asks a database for, as the contracts have it: dbt's pages show types from there."""
    return {
        node["unique_id"]: {
            "unique_id": node["unique_id"],
            "metadata": {
                "type": "VIEW" if node["config"]["materialized"] == "view" else "BASE TABLE",
                "database": node["database"],
                "schema": node["schema"],
                "name": node["name"],
                "comment": node["description"],
                "owner": None,
            },
            "columns": {
                column["name"]: {
                    "type": column["data_type"],
                    "index": index,
                    "name": column["name"],
                    "comment": column["description"],
                }
                for index, column in enumerate(node["columns"].values(), start=1)
            },
            "stats": {},
        }
        for node in _models(manifest)
    }


def main() -> None:
    """Write both where they belong in the checkout, and say where."""
    settings = Settings.from_environment()
    project_dir = settings.project_dir.resolve()
    try:
        for written in write_pages(settings, project_dir / "docs", project_dir / _SITE):
            click.echo(f"{written.relative_to(project_dir)} written.")
    except (SessionAnalyticsError, OSError) as error:
        raise SystemExit(f"make docs: {error}") from error


if __name__ == "__main__":
    main()
