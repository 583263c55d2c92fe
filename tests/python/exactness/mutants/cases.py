"""What is played on a mutant: cases of other tests, and random histories."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from exactness import (
    test_builds,
    test_changes,
    test_figures,
    test_open_sessions,
    test_series,
    test_windows,
)
from exactness.histories import STEPS, play
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
from exactness.world import World
from hypothesis import HealthCheck, Phase, given, seed, settings

from fiml.sessions.periods import Grain

__all__ = ["cases_of_the_serving_layer", "cases_of_time_series", "directed_cases", "random_cases"]


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
        test_heavy_users.test_a_history_is_added_once_however_many_older_folds_come_after,
        test_names.test_a_new_name_that_is_at_once_the_most_frequent_is_found_unseen_and_folded,
        test_times.test_a_late_row_before_the_first_or_in_a_span_of_its_own_is_folded,
        test_folds.test_a_rebuild_in_ranges_ends_at_its_window_though_rows_move_between_them,
        test_caches.test_what_a_reader_keeps_never_outlives_a_change,
        test_names.test_windows_with_names_that_have_no_key_are_read_from_the_marts,
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
