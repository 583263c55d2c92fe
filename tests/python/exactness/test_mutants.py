"""Seeded mistakes in fold and reader, each of which the tests must find.

A mutant is one plausible slip: a wrong comparison, a forgotten case. It is put into the database's
functions, the compiled SQL or the reader's text, and the same kinds of histories that the other
tests play must then fail. A mutant that survives says that a test is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
import pytest
from exactness import test_directed_cases as directed
from exactness.histories import MICROSECOND, NOON, STEPS
from exactness.test_random_histories import play
from exactness.world import World
from hypothesis import HealthCheck, Phase, given, seed, settings

from fiml.sessions import queries
from fiml.warehouse import fold as fold_module
from fiml.warehouse.project import Mart


@dataclass(frozen=True)
class Mutant:
    """Replace `old` by `new` in a function of the database, in compiled SQL, or in the reader."""

    where: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.where}: {self.old.strip()} -> {self.new.strip() or 'nothing'}"


READER = [
    Mutant(
        "reader",
        "facts.occurred_at < frame.source_until",
        "facts.occurred_at <= frame.source_until",
    ),
    Mutant(
        "reader", "facts.occurred_at >= frame.source_from", "facts.occurred_at > frame.source_from"
    ),
    Mutant("reader", "facts.occurred_at >= frame.as_of", "facts.occurred_at > frame.as_of"),
    Mutant("reader", "facts.occurred_at < frame.mart_until", "facts.occurred_at < frame.as_of"),
    Mutant("reader", 'collate "C"', 'collate "C" desc'),
    Mutant(
        "reader",
        "open_sessions.expires_at > clock.as_of",
        "open_sessions.expires_at >= clock.as_of",
    ),
    Mutant("reader", "having sum(parts.occurrences) <> 0", ""),
    Mutant(
        "reader",
        "when mart_states.watermark is null then days.day_end",
        "when false then days.day_end",
    ),
]
DATABASE = [
    Mutant(
        "analytics.is_unseen(xid8,pg_snapshot)",
        "xid >= pg_snapshot_xmin",
        "xid >= pg_snapshot_xmax",
    ),
    Mutant(
        "analytics.begin_fold(text,text)",
        "build_window.window_id <= state.window_id",
        "build_window.window_id = state.window_id",
    ),
    Mutant("analytics.prune_changes(interval)", "select min(", "select max("),
    Mutant(
        "analytics.log_session_metrics()",
        "when 'INSERT' then 1 else -1",
        "when 'INSERT' then 1 else 1",
    ),
    Mutant("analytics.log_sessions_update()", "-1 as sign, gone.*", "1 as sign, gone.*"),
    Mutant(
        "analytics.log_session_metrics_update()",
        "table old_facts except all",
        "table old_facts except",
    ),
    Mutant("analytics.fill_tags()", "sessions.id = new.session_id", "false"),
    Mutant("analytics.names(jsonb)", "between 1 and 255", "between 0 and 256"),
    Mutant("analytics.counts(jsonb)", "= trunc(member.occurrences)", "is not null"),
]
MODELS = [
    Mutant("models", "then -session_changes.sign", "then session_changes.sign"),
    Mutant("models", "isfinite(changes.occurred_at)", "true"),
    Mutant("models", "at time zone 'UTC'", "at time zone 'Asia/Tokyo'"),
    Mutant("fold", "delete from", "-- delete from"),
]


def directed_cases(world: World) -> None:
    """The directed cases that need nothing but a world."""
    for case in (
        directed.test_rows_around_every_midnight_of_a_window_are_counted_once,
        directed.test_rows_dated_in_the_future_are_outside_also_when_a_mart_holds_them,
        directed.test_rows_dated_in_the_future_are_outside_also_while_no_mart_holds_them,
        directed.test_an_archival_that_is_moved_or_taken_back_leaves_no_trace,
        directed.test_rows_that_look_the_same_are_corrected_one_by_one,
        directed.test_a_row_of_a_transaction_older_than_the_build_is_not_lost,
        directed.test_an_older_window_that_comes_late_folds_nothing_twice,
        directed.test_pruning_keeps_what_one_mart_still_needs,
        directed.test_a_rebuild_ends_at_its_window_while_writers_go_on,
        directed.test_tags_are_those_of_the_recording_whatever_becomes_of_the_session,
        directed.test_a_key_whose_count_falls_to_zero_vanishes_from_mart_and_answer,
        directed.test_ties_of_the_top_ten_are_ordered_by_bytes,
        directed.test_times_that_are_not_finite_are_in_no_window_and_stop_nothing,
        directed.test_an_active_session_is_open_and_expires_after_the_instant_of_the_read,
    ):
        world.clear()
        case(world)
    for is_built in (False, True):
        world.clear()
        directed.test_names_and_counts_out_of_range_are_set_aside(world, is_built)
    for offset in (timedelta(days=-1), timedelta(0), -MICROSECOND):
        for is_built in (False, True):
            world.clear()
            directed.test_a_window_begins_inclusive_and_ends_exclusive_to_the_microsecond(
                world, NOON, offset, offset != timedelta(0), is_built
            )


def random_cases(world: World) -> None:
    """A fixed set of random histories."""

    @seed(20260329)
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STEPS)
    def any_history(steps: list[Callable[[World], object]]) -> None:
        play(world, steps)

    any_history()


@pytest.fixture
def mutated(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    mutant: Mutant = request.param
    if mutant.where == "reader":
        _mutate_reader(mutant, monkeypatch)
    elif mutant.where == "models":
        for mart in world.marts.values():
            assert mutant.old in mart.compiled_code
            world.marts[mart.name] = replace(
                mart, compiled_code=mart.compiled_code.replace(mutant.old, mutant.new)
            )
    elif mutant.where == "fold":
        _mutate_fold(mutant, monkeypatch)
    else:
        row = world.builder.execute(
            "select pg_get_functiondef(%s::regprocedure)", [mutant.where]
        ).fetchone()
        assert row is not None
        assert mutant.old in row[0]
        world.builder.execute(row[0].replace(mutant.old, mutant.new))
    return world


def _mutate_reader(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = {
        kind: queries.Question(
            **{
                name: getattr(question, name).replace(mutant.old, mutant.new)
                for name in queries.Question.__slots__
            }
        )
        for kind, question in queries._QUESTIONS.items()
    }
    assert mutants != queries._QUESTIONS
    monkeypatch.setattr(queries, "_QUESTIONS", mutants)


def _mutate_fold(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = fold_module.fold_statements

    def fold_statements(mart: Mart) -> tuple[str, ...]:
        return tuple(
            "select 1" if text.startswith(mutant.old) else text for text in statements(mart)
        )

    monkeypatch.setattr(fold_module, "fold_statements", fold_statements)


@pytest.mark.parametrize("mutated", READER + DATABASE + MODELS, ids=str, indirect=True)
def test_a_seeded_mistake_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error)):  # noqa: PT012 - either set may find it
        directed_cases(mutated)
        random_cases(mutated)


def test_without_a_mistake_the_same_histories_pass(world: World) -> None:
    directed_cases(world)
    random_cases(world)
