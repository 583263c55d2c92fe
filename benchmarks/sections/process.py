"""What the reader's process costs before it reads: time to import, and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.children import child, result_of
from benchmarks.measure import Timing

__all__ = ["run"]

_ROUNDS: Final = 9
_ROOT: Final = Path(__file__).resolve().parents[2]
_FORBIDDEN: Final = ("dbt", "dagster")
_IMPORT: Final = """
import json, sys, time
began = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - began, sorted(m for m in sys.modules if "." not in m)]))
"""


def run(bench: Bench) -> dict[str, Any]:
    """Seconds to import the reader, beside those of its driver; memory of a process that reads."""
    bench.note("import the reader")
    _imported("fiml.sessions.analytics")
    taken: dict[str, list[float]] = {"fiml.sessions.analytics": [], "psycopg": []}
    modules: set[str] = set()
    for _ in range(_ROUNDS):
        for module, seconds in taken.items():
            taken_now, found = _imported(module)
            seconds.append(taken_now)
            if module != "psycopg":
                modules.update(found)
    bench.note("read in a process of its own")
    task = {
        "conninfo": bench.settings.conninfo,
        "slices": [{"is_floor": False, "clients": 8, "seconds": bench.options.load_seconds}],
    }
    with child("benchmarks.workload", task) as process:
        reading = result_of(process)
    driver = Timing(tuple(taken["psycopg"]))
    return {
        "import": Timing(tuple(taken["fiml.sessions.analytics"])).figures(driver),
        "import_of_driver": driver.figures(),
        "imports_that_it_must_not": sorted(modules.intersection(_FORBIDDEN)),
        "reading_peak_mb": reading["peak_mb"],
        "reads": len(reading["slices"][0]["taken"]),
    }


def _imported(module: str) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(module=module)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, modules = json.loads(done.stdout)
    return float(seconds), modules
