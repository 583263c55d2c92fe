"""Short runs: all answers are equal, what was measured is written, nothing is left behind."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.answers import Answer, difference
from benchmarks.bench import Options
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.database import Server, mark_complete, own_database
from benchmarks.measure import Effort
from benchmarks.questions import SCOPES, Question, Scope
from benchmarks.report import page_of
from benchmarks.results import load_results
from benchmarks.run import SECTIONS, run
from benchmarks.scale import Scale
from benchmarks.sections.reads import DifferentAnswerError, check_answers
from fiml.errors import DatabaseError

ONCE = Effort(seconds=0.0, fewest=1, most=1, untimed=0)
ASKED_AT = datetime(2026, 3, 29, 13, tzinfo=UTC)


@pytest.mark.parametrize("size", ["10k", pytest.param("100k", marks=pytest.mark.long)])
def test_every_contender_answers_the_same(
    benchmark_server: Server,
    database_name: str,
    has_database: Callable[[str], bool],
    tmp_path: Path,
    size: str,
) -> None:
    scale = Scale.parse(size)
    days = (1, 7, 30, 90)
    options = Options(SCOPES, days, (1,), CONTENDERS, ONCE)
    measured = run(
        benchmark_server, scale, options, ["reads"], tmp_path, database_name=database_name
    )
    reads = measured["reads"]
    others = {"reader", "reader_cold", "marts", "orm", "duckdb", "clickhouse"} - set(
        reads["missing"]
    )
    assert {"reader", "orm"} <= others
    # Each of them beside the statement, for every scope and window, at two instants.
    assert reads["answers_compared"] == len(others) * len(SCOPES) * len(days) * 2
    assert {(cell["scope"], cell["days"]) for cell in reads["cells"]} == {
        (scope, number) for scope in SCOPES for number in days
    }
    for cell in reads["cells"]:
        # Of few sessions a user may have none in a day.
        assert cell["rows"] > 0 or cell["days"] == 1
        assert {"floor", "reader", "statement"} <= set(cell["contenders"])
    assert not has_database(database_name)


def test_a_run_of_everything_writes_results_and_a_page(
    benchmark_server: Server,
    database_name: str,
    has_database: Callable[[str], bool],
    tmp_path: Path,
) -> None:
    scale = Scale.parse("5k")
    options = Options(
        scopes=("platform",),
        days=(1, 30),
        clients=(1, 2),
        contenders=("floor", "reader", "statement"),
        effort=ONCE,
        load_seconds=0.2,
        live_seconds=2.0,
        most_rows=1_000,
    )
    run(benchmark_server, scale, options, SECTIONS, tmp_path, database_name=database_name)
    results = load_results(tmp_path)
    sections = results[scale]["sections"]
    assert set(sections) == {"load", *SECTIONS}
    assert sections["live"]["answers_checked"] >= 2
    assert sections["live"]["archived"] > 0
    assert sections["archival"]["sessions"] >= 999
    assert sections["process"]["imports_that_it_must_not"] == []
    assert {"new_1", "new_20", "new_1000", "late_1", "erased_1000"} == set(sections["folding"])
    assert [cell["unseen"] for cell in sections["unseen"]] == [0, 0, 1_000, 1_000]
    page = page_of(results, has_chart=False)
    assert "## 5k sessions" in page
    assert "| 64 callers" not in page
    assert not has_database(database_name)


class Liar(Contender):
    """Answers as told."""

    name = "liar"
    title = "a liar"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def answer(self, question: Question) -> Answer:
        del question
        return self._answer


ANSWER: Answer = {"total_sessions": 2, "rate": 0.5, "types": {"equity": 1, "crypto": 1}}


@pytest.mark.parametrize(
    "other",
    [
        {**ANSWER, "total_sessions": 3},
        {**ANSWER, "total_sessions": 2.0},
        {**ANSWER, "types": {"crypto": 1, "equity": 1}},
        {"total_sessions": 2, "types": ANSWER["types"], "rate": 0.5},
        {**ANSWER, "message": "more"},
    ],
    ids=["value", "type", "order of names", "order of keys", "key"],
)
def test_an_answer_that_differs_stops_the_run(other: dict[str, Any]) -> None:
    question = Question(Scope("platform"), 30, ASKED_AT)
    assert difference(dict(ANSWER), ANSWER) is None
    assert check_answers([Liar(ANSWER), Liar(dict(ANSWER))], question) == 1
    with pytest.raises(DifferentAnswerError, match="platform, 30 days before 2026-03-29"):
        check_answers([Liar(ANSWER), Liar(other)], question)


def test_a_database_that_no_benchmark_made_is_left_alone(
    benchmark_server: Server, server: Any, has_database: Callable[[str], bool]
) -> None:
    name = server.create_database()
    try:
        with (
            pytest.raises(DatabaseError, match="no benchmark made"),
            own_database(benchmark_server, name, is_kept=False),
        ):
            pass
        assert has_database(name)
    finally:
        server.drop_database(name)


def interrupted(server: Server, name: str, has_database: Callable[[str], bool]) -> None:
    with own_database(server, name, is_kept=True):
        assert has_database(name)
        raise KeyboardInterrupt


def test_a_run_that_fails_before_the_history_is_there_leaves_no_database(
    benchmark_server: Server, database_name: str, has_database: Callable[[str], bool]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(benchmark_server, database_name, has_database)
    assert not has_database(database_name)


def test_a_database_is_kept_and_used_again_where_that_is_asked_for(
    benchmark_server: Server, database_name: str, has_database: Callable[[str], bool]
) -> None:
    with own_database(benchmark_server, database_name, is_kept=True) as (_, is_filled):
        assert not is_filled
        mark_complete(benchmark_server, database_name)
    with pytest.raises(KeyboardInterrupt):
        interrupted(benchmark_server, database_name, has_database)
    with own_database(benchmark_server, database_name, is_kept=True) as (_, is_filled):
        assert is_filled
    with own_database(benchmark_server, database_name, is_kept=False) as (_, is_filled):
        assert not is_filled
    assert not has_database(database_name)
