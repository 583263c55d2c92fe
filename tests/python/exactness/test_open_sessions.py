"""What the feed says of sessions that are open: their number is a sum, whatever becomes of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from exactness.examples import archived, session
from exactness.moments import MICROSECOND, NOON
from exactness.world import Session, World

Row = tuple[int, int, str, str | None, str]

EXPIRY = NOON.replace(year=2100)
OPEN = ("ann", "equity", False, None)
ARCHIVED = ("ann", "equity", True, NOON)
ARCHIVED_LATER = ("ann", "equity", True, NOON + MICROSECOND)
# Archived at no time, as `is_archived = true` alone says it.
CLOSED = ("ann", "equity", True, None)
OPENED: Row = (1, 1, "opening", "ann", "equity")
CEASED: Row = (-1, 1, "opening", "ann", "equity")


def feed(world: World) -> list[Row]:
    """The rows that are in the feed, which is emptied."""
    rows = world.builder.execute(
        """
        with taken as (delete from analytics.session_changes returning *)
        select taken.sign, taken.open_sessions, taken.fact, user_keys.user_id, taken.session_type
        from taken
        inner join analytics.user_keys using (user_key)
        order by taken.sign, taken.fact, user_keys.user_id, taken.session_type, taken.occurred_at
        """
    ).fetchall()
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def put(world: World, state: tuple[Any, ...], number: int = 1) -> UUID:
    session_id = UUID(int=number)
    world.write(
        0,
        "insert into sessions (id, user_id, type, is_archived, archived_at) "
        "values (%s, %s, %s, %s, %s)",
        [session_id, *state],
    )
    return session_id


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        (None, OPEN, [OPENED]),
        (None, ARCHIVED, [(1, 0, "archival", "ann", "equity")]),
        (None, CLOSED, []),
        (OPEN, None, [CEASED]),
        (ARCHIVED, None, [(-1, 0, "archival", "ann", "equity")]),
        (CLOSED, None, []),
        (OPEN, ARCHIVED, [(1, -1, "archival", "ann", "equity")]),
        (ARCHIVED, OPEN, [(-1, -1, "archival", "ann", "equity")]),
        (OPEN, CLOSED, [CEASED]),
        (CLOSED, OPEN, [OPENED]),
        (CLOSED, ARCHIVED, [(1, 0, "archival", "ann", "equity")]),
        (ARCHIVED, CLOSED, [(-1, 0, "archival", "ann", "equity")]),
        (
            ARCHIVED,
            ARCHIVED_LATER,
            [(-1, 0, "archival", "ann", "equity"), (1, 0, "archival", "ann", "equity")],
        ),
        (OPEN, ("bob", "equity", False, None), [CEASED, (1, 1, "opening", "bob", "equity")]),
        (OPEN, (None, "equity", False, None), [CEASED, (1, 1, "opening", None, "equity")]),
        (OPEN, ("ann", "macro", False, None), [CEASED, (1, 1, "opening", "ann", "macro")]),
        (OPEN, ("bob", "equity", True, NOON), [CEASED, (1, 0, "archival", "bob", "equity")]),
        (
            ARCHIVED,
            ("ann", "macro", True, NOON),
            [(-1, 0, "archival", "ann", "equity"), (1, 0, "archival", "ann", "macro")],
        ),
        (
            ARCHIVED,
            ("ann", "macro", False, NOON),
            [(-1, 0, "archival", "ann", "equity"), (1, 1, "opening", "ann", "macro")],
        ),
        # A time of archival counts for nothing while the session is open.
        (OPEN, ("ann", "equity", False, NOON), []),
        *[(state, state, []) for state in (OPEN, ARCHIVED, CLOSED)],
    ],
)
def test_each_change_of_a_session_writes_what_it_changes(
    world: World,
    before: tuple[Any, ...] | None,
    after: tuple[Any, ...] | None,
    rows: list[Row],
) -> None:
    if before is not None:
        put(world, before)
        feed(world)
    if before is None and after is not None:
        put(world, after)
    elif after is None:
        world.write(0, "delete from sessions")
    else:
        world.write(
            0,
            "update sessions set user_id = %s, type = %s, is_archived = %s, archived_at = %s",
            after,
        )
    assert feed(world) == rows


def test_a_session_of_which_nobody_says_that_it_is_archived_is_not_open(world: World) -> None:
    world.write(0, "alter table sessions alter column is_archived drop not null")
    put(world, OPEN)
    feed(world)
    for state, rows in (
        ("null", [CEASED]),
        ("true", [(1, 0, "archival", "ann", "equity")]),
        ("null", [(-1, 0, "archival", "ann", "equity")]),
        ("false", [OPENED]),
    ):
        world.write(0, f"update sessions set is_archived = {state}, archived_at = now()")
        assert feed(world) == rows
    world.write(0, "delete from sessions")
    world.write(0, "alter table sessions alter column is_archived set not null")


def test_a_session_that_moved_and_one_that_did_not_can_be_archived_in_one_transaction(
    world: World,
) -> None:
    first, second = put(world, OPEN), put(world, OPEN, 2)
    feed(world)
    world.write(0, "begin")
    world.write(0, "savepoint here")
    world.write(0, "update sessions set type = 'crypto' where id = %s", [second])
    world.write(0, "rollback to savepoint here")
    world.write(0, "update sessions set type = 'macro' where id = %s", [first])
    world.write(0, "update sessions set is_archived = true, archived_at = now()")
    world.write(0, "commit")
    assert feed(world) == [
        CEASED,
        (1, -1, "archival", "ann", "equity"),
        (1, -1, "archival", "ann", "macro"),
        (1, 1, "opening", "ann", "macro"),
    ]


def test_what_extends_or_reads_an_open_session_writes_nothing(world: World) -> None:
    put(world, OPEN)
    feed(world)
    world.write(0, "update sessions set expires_at = now(), last_accessed_at = now()")
    world.write(0, "update sessions set state = '{}', query_history = '[1]', total_queries = 3")
    assert feed(world) == []


def test_sessions_that_swap_their_ids_are_open_as_before(world: World) -> None:
    first, second = put(world, OPEN), put(world, ("bob", "macro", True, NOON), 2)
    world.clear()
    put(world, OPEN)
    put(world, ("bob", "macro", True, NOON), 2)
    world.open_window()
    world.write(0, "alter table sessions drop constraint sessions_pkey")
    world.write(
        0, "update sessions set id = case id when %s then %s else %s end", [first, second, first]
    )
    world.check(days=3650)
    world.write(0, "alter table sessions add primary key (id)")


def test_many_are_paired_one_by_one_in_one_statement(world: World) -> None:
    kinds = [OPEN, ARCHIVED, CLOSED, ("bob", "equity", False, None)]
    for number in range(40):
        put(world, kinds[number % 4], number)
    feed(world)
    world.write(0, "update sessions set is_archived = not is_archived, archived_at = %s", [NOON])
    assert sorted(feed(world), key=repr) == sorted(
        [
            (1, -1, "archival", "ann", "equity"),
            (-1, -1, "archival", "ann", "equity"),
            OPENED,
            (1, -1, "archival", "bob", "equity"),
        ]
        * 10,
        key=repr,
    )


def test_an_opening_is_no_figure_of_a_day(world: World) -> None:
    world.build()
    world.insert_session(0, session(NOON, EXPIRY, "unheard-of", user_id="ann"))
    for path in ("serving", "marts"):
        answer = world.read(days=1, include_meta=True, path=path)
        assert answer["meta"]["path"] == path
        assert (answer["active_sessions"], answer["session_type_breakdown"]) == (1, {})
        assert answer["meta"]["tail_rows"] == 0
    world.build()
    assert {name: rows for name, rows in world.rows().items() if rows} == {
        "session_totals": [(False, "", "open", "infinity", "open_sessions", 1)]
    }
    days = world.builder.execute(
        "select count(*) from analytics.days_to_reconcile('daily_session_stats', false)"
    ).fetchone()
    assert days == (0,)


def test_archiving_erasing_and_dropping_leave_the_number_of_open_sessions_exact(
    world: World,
) -> None:
    world.clear()
    for user_id in ("ann", "bob", None):
        world.insert_session(0, session(NOON, EXPIRY, user_id=user_id))
        world.insert_session(0, session(NOON, NOON, user_id=user_id))
        world.insert_session(0, archived(NOON, user_id))
    world.open_window()
    world.check(days=1)
    world.write(0, "select analytics.archive_expired_sessions(10)")
    world.check(days=1)
    world.write(0, "select analytics.erase_user('ann')")
    world.check(days=1)
    world.write(0, "update sessions set created_at = now() where not is_archived")
    world.build()
    world.write(0, "select analytics.apply_retention(%s)", [NOON.replace(day=30)])
    assert world.builder.execute("select count(*) from sessions").fetchone() == (4,)
    world.check_openings()


def test_a_session_archived_behind_the_horizon_is_not_open_any_more(world: World) -> None:
    world.clear()
    world.builder.execute("update analytics.settings set horizon = %s", [NOON.replace(hour=0)])
    row = session(NOON, EXPIRY)
    world.insert_session(0, row)
    world.open_window()
    world.insert_session(
        0, Session(**(vars(row) | {"is_archived": True, "archived_at": NOON.replace(day=1)}))
    )
    assert world.builder.execute("select count(*) from sessions").fetchone() == (0,)
    world.check(days=1)
