"""A clock that jumps: no figure depends on when it was folded, or on what comes after what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from exactness.examples import add, archived, metrics
from exactness.moments import DAY, HOUR, MICROSECOND, MIDNIGHT, NOON
from exactness.world import World
from warehouse.application import one

from fiml.settings import Settings
from fiml.warehouse.project import Mart, compiled

CLOCK = re.compile(
    r"\b(?:now|clock_timestamp|transaction_timestamp|statement_timestamp|timeofday)\s*\(|"
    r"\b(?:current_(?:date|time|timestamp)|local(?:time|timestamp))\b|"
    r"'(?:now|today|tomorrow|yesterday)'",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"--[^\n]*")
_NAME = re.compile(r'"?\b(analytics|serving|marts)"?\."?([a-z_]+)')
# Of everything of ours: what it is made of, as text.
_DEFINITIONS = """
select pg_namespace.nspname || '.' || pg_proc.proname, pg_get_functiondef(pg_proc.oid)
from pg_proc
inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
where pg_namespace.nspname in ('analytics', 'serving') and pg_proc.prokind = 'f'
union all
select pg_namespace.nspname || '.' || pg_class.relname, pg_get_viewdef(pg_class.oid)
from pg_class
inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
where pg_namespace.nspname in ('analytics', 'serving', 'marts') and pg_class.relkind = 'v'
"""
_TRIGGERS = """
select pg_namespace.nspname || '.' || pg_proc.proname
from pg_trigger
inner join pg_proc on pg_trigger.tgfoid = pg_proc.oid
inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
where not pg_trigger.tgisinternal
"""
# What stands around the compiled SQL of a mart when it is folded: fiml/warehouse/fold.py.
_FOLDING = [
    "open_window",
    "begin_fold",
    "fold_ranges",
    "begin_range",
    "end_fold",
    "assign_missing_user_keys",
]
# What reads a clock all the same, and why no figure is made of it.
_HARMLESS = {
    # When a mart was folded and what that took, for people, `doctor` and metrics.
    "analytics.end_fold": (
        "folded_at = clock_timestamp(),\n"
        "            fold_duration = clock_timestamp() - transaction_timestamp()"
    ),
    # What opens has no time; its row has to have one.
    "analytics.session_change": "coalesce(archived_at, transaction_timestamp())",
}
# A view, which nothing folds: its calendar ends with the present year.
_CALENDAR = "dim_date"


@pytest.fixture
def definitions(migrated_database: str) -> Iterator[Mapping[str, str]]:
    with psycopg.connect(migrated_database) as connection:
        found: dict[str, str] = {}
        for name, text in connection.execute(_DEFINITIONS).fetchall():
            found[name] = found.get(name, "") + _COMMENT.sub("", text)
        found["triggers"] = " ".join(row[0] for row in connection.execute(_TRIGGERS).fetchall())
        yield found


def reached(definitions: Mapping[str, str], text: str) -> set[str]:
    """What a text names of ours, and what that names."""
    found: set[str] = set()
    ahead = [text]
    while ahead:
        names = {".".join(match) for match in _NAME.findall(ahead.pop())}
        new = (names & definitions.keys()) - found
        found |= new
        ahead += [definitions[name] for name in new]
    return found


def test_nothing_that_folds_reads_a_clock(definitions: Mapping[str, str]) -> None:
    project = compiled(Settings.from_environment())
    texts = {
        **{mart.name: mart.compiled_code for mart in project.marts},
        **{view.name: view.compiled_code for view in project.views},
        **{f"comparison of {test.mart}": test.compiled_code for test in project.reconciliations},
    }
    roots = " ".join([*texts.values(), *(f"analytics.{name}" for name in _FOLDING)])
    of_folds = reached(definitions, f"{roots} {definitions['triggers']}")
    # How a session ends is a matter of the clock, and so is where a window does.
    assert CLOCK.search(definitions["analytics.archive_locked"])
    assert CLOCK.search(definitions["analytics.read_window"])
    assert {"analytics.is_unseen", "analytics.log_sessions_update", "serving.start_of"} <= of_folds
    for name in of_folds:
        text = definitions[name]
        if name in _HARMLESS:
            assert _HARMLESS[name] in text
            text = text.replace(_HARMLESS[name], "")
        assert not CLOCK.search(text), name
    for name, text in texts.items():
        assert bool(CLOCK.search(_COMMENT.sub("", text))) is (name == _CALENDAR), name
    assert _HARMLESS.keys() <= of_folds


def test_no_column_of_a_figure_is_filled_from_a_clock(migrated_database: str) -> None:
    with psycopg.connect(migrated_database) as connection:
        defaults = connection.execute(
            """
            select columns.table_schema || '.' || columns.table_name, columns.column_default
            from information_schema.columns
            where columns.table_schema in ('analytics', 'marts', 'serving')
            """
        ).fetchall()
    with_clock = {table for table, default in defaults if default and CLOCK.search(default)}
    # When something was done, for people; and how old a window is, for pruning.
    assert with_clock == {
        "analytics.build_windows",
        "analytics.erased_users",
        "analytics.migrations",
        # When a mail or a call was written.
        "analytics.notices",
        "analytics.quarantine",
    }


def check(world: World, *moments: Any) -> None:
    """Every path, at moments that follow each other in no order, with what was kept before."""
    for as_of in moments:
        for days in (1, 2, 30):
            for user_id in (None, "ann"):
                world.check(as_of=as_of, days=days, user_id=user_id)


def test_rows_that_are_written_and_folded_across_midnight_count_on_their_day(
    world: World,
) -> None:
    world.build()
    for offset in (-2 * MICROSECOND, -MICROSECOND, timedelta(0), MICROSECOND):
        at = MIDNIGHT + offset
        add(world, metrics(at))
        world.insert_session(0, archived(at))
        # Before it is folded, and after; and as of before, which is another day.
        check(world, at + MICROSECOND, at)
        world.build()
        check(world, at + MICROSECOND, at, at + DAY, at + DAY + MICROSECOND)
    days = world.rows()["daily_session_stats"]
    assert [(row[0], row[2]) for row in days] == [
        (str((MIDNIGHT - DAY).date()), 2),
        (str(MIDNIGHT.date()), 2),
    ]
    world.check_incremental_equals_scratch()


@pytest.mark.parametrize("is_built", [False, True])
def test_archivals_dated_in_the_future_count_when_their_time_has_come(
    world: World, is_built: bool
) -> None:
    world.build()
    for at in (NOON - HOUR, NOON, NOON + HOUR, NOON + DAY, NOON + 400 * DAY):
        world.insert_session(0, archived(at))
        add(world, metrics(at))
    if is_built:
        world.build()
    for as_of, count in ((NOON, 1), (NOON + HOUR + MICROSECOND, 3), (NOON + 2 * DAY, 4)):
        found = world.check(as_of=as_of, days=7)
        assert found["archived_sessions"] == found["total_sessions"] == count
    # The clock was set back, and somebody reads again.
    check(world, NOON + 401 * DAY, NOON + 2 * DAY, NOON, NOON - 2 * HOUR)
    world.check_incremental_equals_scratch()


def test_archivals_dated_before_the_last_build_are_folded_by_the_next(world: World) -> None:
    add(world, metrics(NOON))
    world.build()
    for at in (NOON - HOUR, NOON - DAY, MIDNIGHT - MICROSECOND, NOON - 40 * DAY):
        add(world, metrics(at))
        world.insert_session(0, archived(at))
        check(world, NOON + HOUR, NOON - HOUR)
        world.build()
        check(world, NOON + HOUR, NOON - HOUR)
    assert world.check(as_of=NOON + HOUR, days=2)["archived_sessions"] == 3
    world.check_incremental_equals_scratch()


def test_a_session_that_began_after_it_ended_lasted_no_time(world: World) -> None:
    """It was created, then the clock was set back, then it was archived."""
    session_id = uuid4()
    world.write(
        0,
        "insert into sessions (id, user_id, type, created_at, expires_at) values "
        "(%s, 'ann', 'equity', now() + interval '2 hours', now() + interval '3 hours')",
        [session_id],
    )
    world.build()
    assert world.check()["active_sessions"] == 1
    assert one(world.oracle, "select analytics.archive_session(%s)", session_id)
    for _ in range(2):
        found = world.check()
        assert (found["active_sessions"], found["archived_sessions"]) == (0, 1)
        assert found["total_sessions"] == 0
        later = one(world.oracle, "select now() + interval '4 hours'")
        found = world.check(as_of=later)
        assert (found["total_sessions"], found["avg_duration_seconds"]) == (1, 0.0)
        check(world, None, later, None)
        world.build()
    world.check_incremental_equals_scratch()


@pytest.mark.parametrize("jump", ["1 day", "-1 day"])
def test_what_is_pruned_by_a_clock_that_jumped_was_folded(
    world: World, marts: tuple[Mart, ...], jump: str
) -> None:
    """Between a build and the pruning the clock went forward, or back."""
    for day in range(3):
        add(world, metrics(NOON - day * DAY))
        world.build()
        add(world, metrics(NOON - day * DAY, user_id="bob"))
        world.builder.execute(
            "update analytics.build_windows set opened_at = opened_at - %s::interval", [jump]
        )
        world.builder.execute(
            "update analytics.watermarks set folded_at = folded_at - %s::interval", [jump]
        )
        world.builder.execute("select analytics.prune_changes()")
        check(world, NOON + HOUR)
    assert world.check(as_of=NOON + HOUR)["total_sessions"] == 6
    assert one(world.oracle, "select count(*) from analytics.watermarks") == len(marts)
    world.check_incremental_equals_scratch()
