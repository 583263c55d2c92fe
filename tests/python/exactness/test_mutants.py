"""Seeded mistakes in fold and reader, each of which the tests must find.

A mutant is one plausible slip: a wrong comparison, a forgotten case. It is put into the database's
functions, the compiled SQL or the reader's text, and the same kinds of histories that the other
tests play must then fail. A mutant that survives says that a test is missing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
import pytest
from exactness import (
    test_builds,
    test_changes,
    test_figures,
    test_open_sessions,
    test_series,
    test_windows,
)
from exactness.histories import STEPS
from exactness.moments import MICROSECOND, NOON
from exactness.serving import (
    test_active,
    test_caches,
    test_damaged_layer,
    test_folds,
    test_heavy_users,
    test_layouts,
    test_names,
    test_times,
    test_values,
)
from exactness.test_random_histories import play
from exactness.world import World
from hypothesis import HealthCheck, Phase, given, seed, settings
from spreading import spread

from fiml.sessions import queries, reading, serving, windows
from fiml.sessions.periods import Grain
from fiml.sessions.queries import marts
from fiml.warehouse import fold as fold_module
from fiml.warehouse.project import Mart


@dataclass(frozen=True)
class Mutant:
    """Replace `old` by `new` in one place.

    Attributes:
        where: "reader", the statements that read marts; "users", those that read periods of a user
            from the source; "models", all compiled SQL; "totals", that
            of the serving layer; "fold", what folds it; a module; or a function of the database.
    """

    where: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.where}: {self.old.strip()} -> {self.new.strip() or 'nothing'}"


# All of them take longer than everything else: a run tries a sixth, and another one the next day.
DAYS = 24

READER = [
    Mutant(
        "reader",
        "facts.occurred_at < frame.source_until",
        "facts.occurred_at <= frame.source_until",
    ),
    Mutant(
        "reader", "facts.occurred_at >= frame.source_from", "facts.occurred_at > frame.source_from"
    ),
    Mutant(
        "reader", "facts.occurred_at >= frame.beyond_from", "facts.occurred_at > frame.beyond_from"
    ),
    Mutant("reader", "facts.occurred_at < frame.mart_until", "facts.occurred_at < frame.as_of"),
    Mutant("reader", 'collate "C"', 'collate "C" desc'),
    Mutant(
        "reader",
        "open_sessions.expires_at > clock.as_of",
        "open_sessions.expires_at >= clock.as_of",
    ),
    Mutant("reader", "and facts.fact <> 'opening'", ""),
    Mutant("reader", "having sum(parts.occurrences) <> 0", ""),
    Mutant(
        "reader",
        "when days.watermark is null then days.until",
        "when false then days.until",
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
    Mutant(
        "analytics.log_sessions_update()",
        "values (-1, session.archived",
        "values (1, session.archived",
    ),
    Mutant("analytics.log_sessions_update()", "side.sign * session.opened", "session.opened"),
    Mutant("analytics.log_sessions_update()", "session.opened = side.sign and", "true and"),
    Mutant("analytics.log_sessions_update()", "and side.archived_otherwise is null", ""),
    Mutant(
        "analytics.log_sessions_update()",
        "group by row.id, row.user_id, row.type",
        "group by row.user_id, row.type",
    ),
    Mutant("analytics.log_sessions()", "case when row.is_archived then 0 else 1 end", "1"),
    Mutant("analytics.log_sessions()", "not row.is_archived or", ""),
    Mutant("analytics.log_sessions_update()", "true), '') = ''", "true), '') <> 'none'"),
    Mutant("analytics.log_sessions_update()", "ended.sign, -ended.sign", "ended.sign, 1"),
    Mutant(
        "analytics.log_sessions_update()",
        "from old_rows where is_archived is not false",
        "from old_rows where false",
    ),
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
OUTSIDE = "serving.outside_of_buckets(timestamptz,timestamptz,timestamptz)"
OUTSIDE_FACTS = "serving.outside_facts(timestamptz,timestamptz,timestamptz,text,text)"
READ_WINDOW = "analytics.read_window(text,text,integer,timestamptz,bigint,boolean)"
RANGES = "serving.window_ranges(timestamptz,timestamptz,timestamptz,timestamptz,timestamptz)"
SERVING = [
    Mutant(
        OUTSIDE_FACTS,
        "facts.occurred_at >= beyond.starts_at",
        "facts.occurred_at > beyond.starts_at",
    ),
    Mutant(
        OUTSIDE_FACTS,
        "facts.occurred_at < beyond.ends_before",
        "facts.occurred_at <= beyond.ends_before",
    ),
    Mutant(READ_WINDOW, "changes.occurred_at >= bucket", "changes.occurred_at > bucket"),
    Mutant(READ_WINDOW, "changes.occurred_at >= bucket", "changes.occurred_at >= since"),
    Mutant(READ_WINDOW, "changes.fact <> 'opening' and", ""),
    Mutant(OUTSIDE, "case when since < bucket then 1 else -1 end", "1"),
    Mutant(OUTSIDE, "('future', -1, now_at", "('future', -1, now_at + interval '1 us'"),
    Mutant(READ_WINDOW, "ended.expires_at <= now_at", "ended.expires_at < now_at"),
    Mutant(READ_WINDOW, "endless.expires_at is null", "false"),
    Mutant(READ_WINDOW, "active.expires_at > now_at", "active.expires_at >= now_at"),
    Mutant(READ_WINDOW, "wanted_key is null or changes.user_key = wanted_key", "true"),
    Mutant(
        READ_WINDOW,
        "wanted_key is null then changes.open_sessions",
        "true then changes.open_sessions",
    ),
    Mutant(
        READ_WINDOW,
        "when wanted_key is null then layer.bucket_width",
        "when true then layer.bucket_width",
    ),
    Mutant(READ_WINDOW, "if etag is distinct from known_etag", "if known_etag is null"),
    Mutant(
        READ_WINDOW, "wanted_key is null then date_trunc('day', since, 'UTC')", "false then since"
    ),
    Mutant(RANGES, "day < span", "day > span"),
    Mutant(RANGES, "hour < day", "hour > day"),
    Mutant(RANGES, "bucket < hour", "bucket > hour"),
    Mutant(RANGES, "(1, 'open', 'infinity', 'infinity'),", ""),
    Mutant("serving.before(timestamptz)", "interval '1 microsecond'", "interval '0'"),
    Mutant(READ_WINDOW, "starts_at >= span", "starts_at > span"),
    Mutant("serving.merged(bigint[])", "(summed.large << 38)) as entry", "0) as entry"),
    Mutant(
        "serving.merged(bigint[])", "serving.entry(-summed.key_id", "serving.entry(summed.key_id"
    ),
    Mutant("serving.reset()", "or starts_at >= horizon", ""),
    Mutant("serving.reset()", "level <> 'day'\n", "true\n"),
    Mutant(
        "serving.reset()",
        "total.sessions := total.sessions + span.sessions",
        "total.sessions := span.sessions",
    ),
    Mutant(
        "serving.reset()",
        "serving.merged(total.settled || array_agg(entry))",
        "serving.merged(array_agg(entry))",
    ),
    Mutant(
        "serving.admit_heavy_users()",
        "set is_new = false where is_new",
        "set is_new = is_new where false",
    ),
    Mutant(
        "serving.admit_heavy_users()",
        "delete from serving.session_totals where scope_id = any(erased)",
        "perform 1",
    ),
    Mutant("analytics.fold_ranges()", "ends_before;", "ends_before + interval '1 us';"),
    Mutant("analytics.fold_ranges()", "starts_at := ends_before;", "starts_at := found_at;"),
    Mutant(
        "totals",
        "running.starts_at > span_sums.starts_at",
        "running.starts_at >= span_sums.starts_at",
    ),
    Mutant(
        "totals",
        "running.starts_at > span_counts.starts_at",
        "running.starts_at >= span_counts.starts_at",
    ),
    Mutant("totals", "from taken_over\n", "from taken_over where false\n"),
    Mutant("totals", "coalesce(taken_over.entries, '{}')", "'{}'::bigint[]"),
    Mutant("totals", "and not user_scopes.is_new", ""),
    Mutant("totals", "> session_changes.occurred_at", ">= session_changes.occurred_at"),
    Mutant(
        "totals",
        "null::timestamptz as bucket_starts_at",
        "serving.start_of(history.occurred_at, layout.bucket_width) as bucket_starts_at",
    ),
    Mutant(
        "totals",
        "cross join platform",
        "cross join (select * from platform where false) as platform",
    ),
    Mutant("totals", "where keyed.user_scope_id is not null", "where false"),
    Mutant("totals", "where changes.user_scope_id is not null", "where false"),
    Mutant("totals", "as fold_range) = '-infinity'", "as fold_range) is not null"),
    Mutant(
        "totals",
        "lower_bound is null then -1 else 1 end as open_sessions",
        "false then -1 else 1 end as open_sessions",
    ),
    Mutant("totals", "large_part(counts.n) << 38)", "large_part(counts.n) << 39)"),
    Mutant("totals", "else folded.added || excluded.settled", "else excluded.settled"),
    Mutant("totals", "then '{}' else", "then folded.added else"),
    Mutant(
        "totals",
        "folded.settled || folded.added || excluded.settled",
        "folded.settled || folded.added",
    ),
    Mutant("totals", "excluded.stamp", "folded.stamp"),
]
READ_PERIODS = "analytics.read_periods(text,text,timestamptz[],timestamptz,boolean,boolean)"
SERIES = [
    Mutant(READ_PERIODS, "then sides.side else -sides.side end", "then 1 else -1 end"),
    Mutant(READ_PERIODS, "sides.side * range.sign", "range.sign"),
    Mutant(READ_PERIODS, "not is_open or boundary.period <= last_period", "true"),
    Mutant(READ_PERIODS, "boundaries[last_period + 1] >= now_at", "boundaries[1] >= now_at"),
    Mutant(READ_PERIODS, "and unseen.period between 1 and last_period", "and unseen.period > 0"),
    Mutant(READ_PERIODS, "array_agg(cuts.bucket order", "array_agg(cuts.since order"),
    Mutant(READ_PERIODS, "then date_trunc('day', boundary.since, 'UTC')", "then boundary.since"),
    Mutant(READ_PERIODS, "unseen.sign * unseen.open_sessions", "0"),
    Mutant(
        READ_PERIODS,
        "when wanted_key is null then layer.bucket_width",
        "when true then layer.bucket_width",
    ),
    Mutant(
        "reader", "least(greatest(days.first_midnight, days.horizon), days.until)", "days.until"
    ),
    Mutant("reader", "days.first_midnight < days.last_midnight", "true"),
    Mutant("reader", "partition by parts.period", "partition by 1"),
    Mutant("users", "facts.occurred_at >= clock.boundaries[1]", "true"),
    Mutant("fiml.sessions.windows", "before + changes[name.name]", "before"),
    Mutant("fiml.sessions.windows", "before + changes[name.name]", "changes[name.name]"),
    Mutant("fiml.sessions.marts", "found.get(period, 0)", "found.get(period + 1, 0)"),
]
PYTHON = [
    Mutant("fiml.sessions.serving", "leaders.limit and (", "False and ("),
    Mutant(
        "fiml.sessions.serving", "found[-1][1] <= leaders.limit", "found[-1][1] < leaders.limit"
    ),
    Mutant("fiml.sessions.serving", "counts = np.where(keys < 0, counts << 38, counts)", "pass"),
    Mutant("fiml.sessions.serving", "keys = np.abs(keys)", "keys = np.maximum(keys, 0)"),
    Mutant("fiml.sessions.serving", "entries + (1 << 39)", "entries"),
    Mutant("fiml.sessions.serving", "(entries - (keys << 40)) * weights", "entries - (keys << 40)"),
    Mutant("fiml.sessions.serving", "counts.get(name, 0) + n", "n"),
    Mutant("fiml.sessions.serving", "self.count(kind, name) + n", "counts.get(name, 0) + n"),
    Mutant(
        "fiml.sessions.serving",
        "np.searchsorted(ids, len(vector))",
        "np.searchsorted(ids, len(vector) - 1)",
    ),
    Mutant("fiml.sessions.serving", "may_be = counts >= np", "may_be = counts > np"),
    Mutant(
        "fiml.sessions.serving",
        "np.isin(ids, changed, invert=True)",
        "np.ones(len(ids), dtype=bool)",
    ),
    Mutant("fiml.sessions.windows", "or folded.etag != head.etag", ""),
    Mutant(
        "fiml.sessions.windows",
        "part.sign * (getattr(part, name) or 0)",
        "(getattr(part, name) or 0)",
    ),
    Mutant("fiml.sessions.windows", "changes.subtract(counted)", "changes.update(counted)"),
    Mutant("fiml.sessions.figures", "return -count, name.encode()", "return -count, b''"),
    Mutant("fiml.sessions.figures", "<= _MAX_NAME", "<= 2 * _MAX_NAME"),
    Mutant("fiml.sessions.figures", "if count >= least", "if count > least"),
    Mutant("fiml.sessions.figures", "not 0 < count <= _MAX_OCCURRENCES", "not 0 < count"),
]

INCARNATION = [
    Mutant("fiml.sessions.serving", "incarnation != self._keys.incarnation", "False"),
    Mutant(
        READ_WINDOW,
        "pg_relation_filepath('serving.keys')",
        "'serving.keys'::regclass::oid::text",
    ),
]


def directed_cases(world: World) -> None:
    """The directed cases that need nothing but a world."""
    for case in (
        test_windows.test_rows_around_every_midnight_of_a_window_are_counted_once,
        test_windows.test_rows_dated_in_the_future_are_outside_also_when_a_mart_holds_them,
        test_windows.test_rows_dated_in_the_future_are_outside_also_while_no_mart_holds_them,
        test_changes.test_an_archival_that_is_moved_or_taken_back_leaves_no_trace,
        test_changes.test_rows_that_look_the_same_are_corrected_one_by_one,
        test_builds.test_a_row_of_a_transaction_older_than_the_build_is_not_lost,
        test_builds.test_an_older_window_that_comes_late_folds_nothing_twice,
        test_builds.test_pruning_keeps_what_one_mart_still_needs,
        test_builds.test_a_rebuild_ends_at_its_window_while_writers_go_on,
        test_changes.test_tags_are_those_of_the_recording_whatever_becomes_of_the_session,
        test_changes.test_a_key_whose_count_falls_to_zero_vanishes_from_mart_and_answer,
        test_figures.test_ties_of_the_top_ten_are_ordered_by_bytes,
        test_windows.test_times_that_are_not_finite_are_in_no_window_and_stop_nothing,
        test_figures.test_an_active_session_is_open_and_expires_after_the_instant_of_the_read,
        test_open_sessions.test_an_opening_is_no_figure_of_a_day,
        test_open_sessions.test_many_are_paired_one_by_one_in_one_statement,
    ):
        world.clear()
        case(world)
    world.clear()
    test_open_sessions.test_each_change_of_a_session_writes_what_it_changes(
        world, test_open_sessions.OPEN, test_open_sessions.CLOSED, [test_open_sessions.CEASED]
    )
    for is_built in (False, True):
        world.clear()
        test_figures.test_names_and_counts_out_of_range_are_set_aside(world, is_built)
    for offset in (timedelta(days=-1), timedelta(0), -MICROSECOND):
        for is_built in (False, True):
            world.clear()
            test_windows.test_a_window_begins_inclusive_and_ends_exclusive_to_the_microsecond(
                world, NOON, offset, offset != timedelta(0), is_built
            )


def cases_of_the_serving_layer(world: World) -> None:
    """Its directed cases that need nothing but a world, from the shortest to the longest."""
    for case in (
        test_open_sessions.test_an_opening_is_no_figure_of_a_day,
        test_active.test_what_opens_ends_and_closes_is_active_for_the_instant_that_is_asked_for,
        test_damaged_layer.test_a_layer_without_a_watermark_leaves_the_answer_to_the_marts,
        test_times.test_a_window_inside_of_the_newest_bucket_is_its_rows_alone,
        test_heavy_users.test_a_user_becomes_heavy_is_erased_and_comes_back,
        test_heavy_users.test_a_user_s_rows_that_move_to_another_user_or_time_move_in_both_totals,
        test_heavy_users.test_who_becomes_heavy_while_writers_go_on_has_what_the_window_saw,
        test_names.test_a_new_name_that_is_at_once_the_most_frequent_is_found_unseen_and_folded,
        test_times.test_a_late_row_before_the_first_or_in_a_span_of_its_own_is_folded,
        test_folds.test_a_rebuild_in_ranges_ends_at_its_window_though_rows_move_between_them,
        test_caches.test_what_a_reader_keeps_never_outlives_a_change,
        test_names.test_the_tenth_name_is_right_where_the_leaders_change_by_one,
        test_times.test_weeks_without_a_row_before_between_and_after_are_weeks_of_zeros,
    ):
        world.clear()
        reset_database(world)
        case(world)
    for is_heavy in (False, True):
        world.clear()
        test_names.test_names_that_vanish_with_an_erased_user_are_told_no_more(world, is_heavy)
    for is_known in (True, False):
        world.clear()
        test_names.test_of_hundreds_of_names_that_are_equally_frequent_the_first_by_bytes_are_told(
            world, is_known
        )
    for boundary in test_times.BOUNDARIES:
        test_times.test_rows_and_windows_meet_to_the_microsecond_where_levels_meet(world, boundary)
    for dirty in ("an over-long name", "a count that is too large"):
        world.clear()
        test_values.test_whatever_json_holds_it_counts_the_same_unseen_at_the_edge_and_folded(
            world, dirty
        )
    test_layouts.test_another_layout_says_the_same_before_and_behind_the_horizon(
        world, test_layouts.WIDTHS[0]
    )
    # It lets rows be merged early, as the random histories that follow will.
    world.clear()
    test_values.test_counts_too_large_for_one_entry_are_exact_at_every_level(world)


def cases_of_time_series(world: World) -> None:
    """The directed cases of periods."""
    for zone in (test_series.UTC_ZONE, test_series.ATHENS):
        for built in ("before", "after"):
            world.clear()
            test_series.test_rows_around_every_boundary_are_counted_once(world, zone, built)
    for is_built in (False, True):
        world.clear()
        test_series.test_a_late_row_and_one_that_is_corrected_move_between_periods(world, is_built)
    for case in (
        test_series.test_names_are_told_for_each_period,
        test_series.test_only_the_open_period_knows_who_is_active,
        test_series.test_a_heavy_user_s_periods_are_those_of_the_layer,
        test_series.test_several_boundaries_inside_of_one_bucket,
        test_series.test_windows_before_the_first_row_and_of_no_length,
    ):
        world.clear()
        case(world)
    world.clear()
    test_series.test_whole_days_stay_when_their_rows_go(world, Grain.DAY)


def reset_database(world: World) -> None:
    """Make again what one of the cases takes away for good."""
    world.builder.execute(
        "insert into analytics.watermarks (mart, system_identifier, feed_oid) "
        "select 'session_totals', system_identifier, feed_oid from analytics.watermarks "
        "where mart = 'daily_session_stats' on conflict do nothing"
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
    elif mutant.where == "users":
        changed = {
            kind: text.replace(mutant.old, mutant.new)
            for kind, text in queries.USER_PERIODS.items()
        }
        assert changed != queries.USER_PERIODS
        monkeypatch.setattr(queries, "USER_PERIODS", changed)
    elif mutant.where in {"models", "totals"}:
        _mutate_models(mutant, world)
    elif mutant.where.startswith("fiml."):
        _mutate_module(mutant, world, monkeypatch)
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
        kind: marts.MartQuestion(
            **{
                name: getattr(question, name).replace(mutant.old, mutant.new)
                for name in marts.MartQuestion.__slots__
            }
        )
        for kind, question in marts._MART_QUESTIONS.items()
    }
    assert mutants != marts._MART_QUESTIONS
    monkeypatch.setattr(marts, "_MART_QUESTIONS", mutants)


def _mutate_models(mutant: Mutant, world: World) -> None:
    names = ["session_totals"] if mutant.where == "totals" else list(world.marts)
    mutants = {
        name: replace(
            world.marts[name],
            compiled_code=world.marts[name].compiled_code.replace(mutant.old, mutant.new),
            on_conflict={
                column: text.replace(mutant.old, mutant.new)
                for column, text in world.marts[name].on_conflict.items()
            },
        )
        for name in names
    }
    assert any(world.marts[name] != mart for name, mart in mutants.items())
    world.marts |= mutants


def _mutate_module(mutant: Mutant, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(mutant.where)
    source = inspect.getsource(module)
    assert mutant.old in source
    original, mutated = dict(vars(module)), dict(vars(module))
    exec(compile(source.replace(mutant.old, mutant.new), module.__file__ or "", "exec"), mutated)  # noqa: S102
    # Whoever imported something by name has the mutant's.
    for user in (reading, windows, serving, test_caches):
        for name in set(vars(user)) & set(module.__all__):
            if vars(user)[name] is original[name]:
                monkeypatch.setattr(user, name, mutated[name])
    if "ServingCache" in mutated:
        world.cache = mutated["ServingCache"]()


def _mutate_fold(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = fold_module.fold_statements

    def fold_statements(mart: Mart) -> tuple[str, ...]:
        return tuple(
            "select 1" if text.startswith(mutant.old) else text for text in statements(mart)
        )

    monkeypatch.setattr(fold_module, "fold_statements", fold_statements)


@pytest.mark.parametrize("mutated", spread(READER + DATABASE + MODELS, DAYS), indirect=True)
def test_a_seeded_mistake_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error)):  # noqa: PT012 - either set may find it
        directed_cases(mutated)
        random_cases(mutated)


@pytest.mark.parametrize("mutated", spread(SERVING + PYTHON, DAYS), indirect=True)
def test_a_seeded_mistake_in_the_serving_layer_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error, ValueError, IndexError)):  # noqa: PT012
        cases_of_the_serving_layer(mutated)
        random_cases(mutated)


@pytest.mark.parametrize("mutated", spread(SERIES, DAYS), indirect=True)
def test_a_seeded_mistake_in_a_time_series_is_found(mutated: World) -> None:
    with pytest.raises((AssertionError, psycopg.Error, IndexError)):
        cases_of_time_series(mutated)


@pytest.mark.parametrize("mutated", INCARNATION, ids=str, indirect=True)
def test_a_cache_that_mistakes_a_copy_for_the_database_is_found(
    mutated: World, migrated_database: str, make_database: Callable[..., str]
) -> None:
    with pytest.raises(AssertionError):
        test_caches.test_a_cache_that_meets_a_copy_of_the_same_files_learns_its_keys_anew(
            migrated_database, make_database, mutated
        )


@pytest.mark.parametrize(
    "cases",
    spread(
        [directed_cases, cases_of_the_serving_layer, cases_of_time_series],
        3,
        lambda cases: cases.__name__,
    ),
)
def test_without_a_mistake_the_same_cases_pass(
    world: World, cases: Callable[[World], None]
) -> None:
    cases(world)
    random_cases(world)
