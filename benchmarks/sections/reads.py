"""Reads: first that all answers are the same, then how long each contender takes for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from benchmarks.answers import difference
from benchmarks.bench import Bench
from benchmarks.contenders import Contender, open_contenders
from benchmarks.measure import interleaved
from benchmarks.questions import Question, Scope

__all__ = ["DifferentAnswerError", "check_answers", "run"]

_SEED: Final = 7
_LAST_SECONDS: Final = 300.0
_LAST_DAY_MICROSECONDS: Final = 24 * 60 * 60 * 1_000_000
_CHECKS_OF_A_CELL: Final = 2

_ROWS: Final = """
select count(*)
from session_metrics
where
    created_at >= %s and created_at < %s
    and (%s::text is null or user_id = %s)
    and (%s::text is null or session_type = %s)
"""


class DifferentAnswerError(Exception):
    """Two contenders answered differently; the message says who, what and where."""


class PassingTime:
    """Instants as an application's calls have them: each a little later than the one before.

    They begin somewhere in the last minutes of the history, so that there are sessions at both ends
    of a window.
    """

    def __init__(self, bench: Bench, seed: int = _SEED) -> None:
        lots = random.Random(seed)  # noqa: S311 - an instant is no secret
        self._start = bench.anchor - timedelta(seconds=lots.uniform(0, _LAST_SECONDS))
        self._began = monotonic()

    def question(self, scope: Scope, days: int) -> Question:
        """Ask now."""
        return Question(scope, days, self._start + timedelta(seconds=monotonic() - self._began))


def run(bench: Bench) -> dict[str, Any]:
    """All scopes and windows: answers compared, then times.

    Raises:
        DifferentAnswerError: two answers differ; nothing is measured then.
    """
    cells: list[dict[str, Any]] = []
    with open_contenders(
        bench.ground, bench.options.contenders, lambda name: bench.note(f"open {name}")
    ) as (contenders, missing):
        scopes = {
            (name, days): bench.scope(name, days)
            for name in bench.options.scopes
            for days in bench.options.days
        }
        checked = 0
        for (name, days), scope in scopes.items():
            bench.note(f"compare answers: {name}, {days} days")
            checked += _check_cell(bench, contenders, scope, days)
        for (name, days), scope in scopes.items():
            bench.note(f"time: {name}, {days} days")
            cells.append(_time_cell(bench, contenders, scope, days))
    return {"answers_compared": checked, "missing": missing, "cells": cells}


def check_answers(contenders: Sequence[Contender], question: Question) -> int:
    """Ask everybody the same, and return how many answers were equal to the first one.

    Raises:
        DifferentAnswerError: one was not.
    """
    if not contenders:
        return 0
    first, *others = contenders
    expected = first.answer(question)
    for contender in others:
        found = contender.answer(question)
        differing = difference(found, expected)
        if differing is not None:
            raise DifferentAnswerError(
                f"{contender.name} and {first.name} differ for {question}: {differing}"
            )
    return len(others)


def _check_cell(bench: Bench, contenders: Mapping[str, Contender], scope: Scope, days: int) -> int:
    lots = random.Random(f"{scope.name} {days}")  # noqa: S311 - an instant is no secret
    checked = 0
    for _ in range(_CHECKS_OF_A_CELL):
        before = timedelta(microseconds=lots.randrange(_LAST_DAY_MICROSECONDS))
        question = Question(scope, days, bench.anchor - before)
        rows = _rows(bench, question)
        compared = [
            contender
            for contender in contenders.values()
            if contender.is_compared and contender.declines(question, rows) is None
        ]
        # The statement is what the others are compared with.
        compared.sort(key=lambda contender: contender.name != "statement")
        checked += check_answers(compared, question)
    return checked


def _time_cell(
    bench: Bench, contenders: Mapping[str, Contender], scope: Scope, days: int
) -> dict[str, Any]:
    rows = _rows(bench, Question(scope, days, bench.anchor))
    declined: dict[str, str] = {}
    time = PassingTime(bench)
    subjects: dict[str, Callable[[], float]] = {}
    for name, contender in contenders.items():
        reason = contender.declines(Question(scope, days, bench.anchor), rows)
        if reason is None:
            subjects[name] = _subject(contender, time, scope, days)
        else:
            declined[name] = reason
    timings = interleaved(subjects, bench.options.effort)
    floor, reader = timings.get("floor"), timings.get("reader")
    figures = {name: timing.figures(floor) for name, timing in timings.items()}
    if reader is not None:
        for name, timing in timings.items():
            figures[name]["times_reader"] = round(timing.times(reader), 2)
    return {
        "scope": scope.name,
        "days": days,
        "rows": rows,
        "declined": declined,
        "contenders": figures,
    }


def _subject(
    contender: Contender, time: PassingTime, scope: Scope, days: int
) -> Callable[[], float]:
    return lambda: contender.seconds(time.question(scope, days))


def _rows(bench: Bench, question: Question) -> int:
    scope = question.scope
    parameters = [
        question.since,
        question.as_of,
        scope.user_id,
        scope.user_id,
        scope.session_type,
        scope.session_type,
    ]
    row = bench.connection.execute(_ROWS, parameters).fetchone()
    return int(row[0]) if row else 0
