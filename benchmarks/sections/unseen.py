"""Reads while feed rows pile up that nothing has folded yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.contenders.pooled import Floor, Reader
from benchmarks.contenders.statement import Statement
from benchmarks.generator import add_archived, remove
from benchmarks.measure import interleaved
from benchmarks.questions import Question
from benchmarks.sections.reads import check_answers

__all__ = ["run"]

_UNSEEN: Final = (0, 1_000, 10_000, 100_000)
# A session that ends brings its metrics and its archival.
_ROWS_OF_A_SESSION: Final = 2
_DAYS: Final = 30
_SCOPES: Final = ("platform", "type")


def run(bench: Bench) -> list[dict[str, Any]]:
    """Medians for each number of unseen rows, and what one more row costs; answers are checked."""
    floor, reader = Floor(bench.ground), Reader(bench.ground)
    statement = Statement(bench.ground)
    bench.folding.fold()
    cells: list[dict[str, Any]] = []
    added: list[Any] = []
    quiet: dict[str, float] = {}
    try:
        for unseen in _UNSEEN:
            if unseen > bench.options.most_rows:
                continue
            bench.note(f"read beside {unseen} unseen rows")
            missing = unseen // _ROWS_OF_A_SESSION - len(added)
            if missing:
                now = datetime.now(UTC)
                added += add_archived(
                    bench.connection,
                    bench.numbers(missing),
                    now - timedelta(days=1),
                    now,
                    archived_at=now,
                )
                bench.connection.execute("analyze analytics.session_changes")
            for name in _SCOPES:
                # Behind every row that was added.
                question = Question(bench.scope(name, _DAYS), _DAYS, datetime.now(UTC))
                check_answers([statement, reader], question)
                timings = interleaved(
                    {"floor": _subject(floor, question), "reader": _subject(reader, question)},
                    bench.options.effort,
                )
                figures = timings["reader"].figures(timings["floor"])
                quiet.setdefault(name, timings["reader"].median)
                if unseen:
                    grown = timings["reader"].median - quiet[name]
                    figures["us_per_row"] = round(grown / unseen * 1e6, 2)
                cells.append({"scope": name, "days": _DAYS, "unseen": unseen, **figures})
    finally:
        statement.close()
        remove(bench.connection, added)
        bench.folding.fold()
        bench.folding.prune()
    return cells


def _subject(contender: Contender, question: Question) -> Callable[[], float]:
    return lambda: contender.seconds(question)
