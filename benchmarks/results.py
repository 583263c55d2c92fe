"""Results as JSON, a file for each scale, so that the page and the chart can show all of them."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg

from benchmarks.scale import Scale

__all__ = ["Results", "circumstances", "load_results", "save_results"]

# The results of one scale, as they stand in the file.
Results: TypeAlias = dict[str, Any]

_PACKAGES: Final = ("psycopg", "duckdb", "chdb", "sqlalchemy")


def circumstances(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Machine and versions."""
    row = connection.execute(
        "select current_setting('server_version'), current_setting('shared_buffers')"
    ).fetchone()
    server, shared_buffers = row or ("", "")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "PostgreSQL": str(server).split(" ")[0],
            "Python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
        },
        "shared_buffers": shared_buffers,
    }


def load_results(folder: Path) -> dict[Scale, Results]:
    """What is there, by scale, smallest first."""
    found = {
        Scale(int(results["sessions"])): results
        for path in folder.glob("*.json")
        for results in [json.loads(path.read_text(encoding="utf-8"))]
    }
    return dict(sorted(found.items()))


def save_results(
    folder: Path,
    scale: Scale,
    machine: Mapping[str, Any],
    sections: Mapping[str, Any],
) -> Path:
    """Write the sections of a run; those it did not measure stay, if the machine is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scale}.json"
    kept: dict[str, Any] = {}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("machine") == machine:
            kept = before["sections"]
    results = {
        "sessions": scale.sessions,
        "measured_on": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        # Of the last minute, this run's own part included.
        "load_average": round(os.getloadavg()[0], 1),
        "sections": {**kept, **sections},
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
