"""What random histories rarely meet: the edges of a window, and races of builds, one by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from exactness.histories import MICROSECOND, NOON
from exactness.world import Metrics, Session, World

MIDNIGHT = NOON - timedelta(hours=12)


def metrics(
    created_at: datetime, session_type: str = "equity", user_id: str | None = "ann", **given: object
) -> Metrics:
    defaults: dict[str, object] = {
        "session": uuid4(),
        "duration_seconds": 60,
        "total_queries": 2,
        "assets": ["AAPL"],
        "query_types": {"price": 2},
        "tags": ["tech"],
        "abandoned": False,
        "completed": True,
    }
    return Metrics(
        created_at=created_at,
        session_type=session_type,
        user_id=user_id,
        **(defaults | given),  # type: ignore[arg-type]
    )


def archived(at: datetime, user_id: str | None = "ann") -> Session:
    return session(at - timedelta(hours=1), at, user_id=user_id, archived_at=at)


def session(
    created_at: datetime,
    expires_at: datetime | None,
    session_type: str = "equity",
    *,
    user_id: str | None = None,
    archived_at: datetime | None = None,
) -> Session:
    return Session(
        id=uuid4(),
        user_id=user_id,
        session_type=session_type,
        tags=[],
        created_at=created_at,
        expires_at=expires_at,
        is_archived=archived_at is not None,
        archived_at=archived_at,
    )


def add(world: World, *rows: Metrics) -> None:
    for row in rows:
        world.insert_metrics(0, [row], upsert=False)


@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize(
    ("offset", "is_inside"),
    [
        (timedelta(days=-1) - MICROSECOND, False),
        (timedelta(days=-1), True),
        (timedelta(days=-1) + MICROSECOND, True),
        (-MICROSECOND, True),
        (timedelta(0), False),
        (MICROSECOND, False),
    ],
)
@pytest.mark.parametrize("as_of", [NOON, MIDNIGHT, MIDNIGHT + MICROSECOND, MIDNIGHT - MICROSECOND])
def test_a_window_begins_inclusive_and_ends_exclusive_to_the_microsecond(
    world: World, as_of: datetime, offset: timedelta, is_inside: bool, is_built: bool
) -> None:
    add(world, metrics(as_of + offset))
    world.insert_session(0, archived(as_of + offset))
    if is_built:
        world.build()
    for user_id in (None, "ann"):
        found = world.check(days=1, as_of=as_of, user_id=user_id)
        assert found["total_sessions"] == found["archived_sessions"] == int(is_inside)


def test_rows_around_every_midnight_of_a_window_are_counted_once(world: World) -> None:
    for day in range(-4, 2):
        for offset in (-MICROSECOND, timedelta(0), MICROSECOND):
            add(world, metrics(MIDNIGHT + timedelta(days=day) + offset))
    world.build()
    for day in range(-3, 2):
        for offset in (-MICROSECOND, timedelta(0), MICROSECOND, timedelta(hours=5)):
            for days in (1, 2, 3):
                world.check(days=days, as_of=MIDNIGHT + timedelta(days=day) + offset)


def test_a_row_at_the_first_midnight_that_no_mart_holds_yet_is_counted(world: World) -> None:
    world.build()
    add(world, metrics(MIDNIGHT - timedelta(days=1)))
    world.insert_session(0, archived(MIDNIGHT - timedelta(days=1)))
    assert world.check(days=1, as_of=MIDNIGHT)["total_sessions"] == 1
    assert world.check(days=2, as_of=NOON)["archived_sessions"] == 1


def test_a_mart_that_nobody_knows_of_is_answered_from_the_source(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    world.builder.execute("delete from analytics.watermarks where mart = 'daily_session_stats'")
    assert world.check(as_of=NOON)["total_sessions"] == 1


def test_the_last_day_that_there_is_stops_no_build(world: World) -> None:
    world.build()
    world.write(
        0,
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', '294276-12-31 12:00+00', 1)",
    )
    world.build()
    days = world.builder.execute(
        "select count(*) from analytics.days_to_reconcile('daily_session_stats', false)"
    ).fetchone()
    assert days == (1,)


def test_three_equal_archivals_that_are_moved_at_once_are_moved_three_times(world: World) -> None:
    for _ in range(3):
        world.insert_session(0, archived(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "update sessions set archived_at = %s", [NOON - timedelta(days=1)])
    assert world.check(as_of=NOON, days=1)["archived_sessions"] == 3
    world.check_incremental_equals_scratch()


def test_a_writer_with_an_old_snapshot_cannot_bring_an_erased_user_back(world: World) -> None:
    world.writers[1].execute("begin isolation level repeatable read")
    world.writers[1].execute("select from sessions")
    add(world, metrics(NOON - timedelta(days=2)))
    world.write(0, "select analytics.erase_user('ann')")
    with pytest.raises(psycopg.errors.SerializationFailure):
        world.writers[1].execute(
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds) values (gen_random_uuid(), 'ann', 'equity', now(), 1)"
        )
    world.writers[1].rollback()
    world.check_incremental_equals_scratch()


def test_an_erased_user_does_not_come_back_through_somebody_s_trigger(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2), user_id="bob"))
    world.write(0, "select analytics.erase_user('ann')")
    connection = world.writers[0]
    connection.execute(
        "create function public.rename() returns trigger language plpgsql as "
        "$$ begin new.user_id := 'ann'; return new; end $$"
    )
    connection.execute(
        "create trigger zz before update on session_metrics "
        "for each row execute function public.rename()"
    )
    with pytest.raises(psycopg.Error, match="was erased"):
        connection.execute("update session_metrics set total_queries = 3")


@pytest.mark.parametrize("call", ["erase_user('ann')", "apply_retention(now())"])
def test_erasure_and_retention_refuse_a_snapshot_that_may_be_too_old(
    world: World, call: str
) -> None:
    world.builder.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        world.builder.execute(f"select analytics.{call}")
    world.builder.rollback()


@pytest.mark.parametrize("keep_from", ["null", "'infinity'"])
def test_retention_without_a_time_drops_nothing(world: World, keep_from: str) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        world.builder.execute(f"select analytics.apply_retention({keep_from})")
    assert world.check(as_of=NOON)["total_sessions"] == 1


def test_what_runs_with_its_owner_s_rights_is_closed_to_everybody_else(world: World) -> None:
    open_to_all = world.builder.execute(
        """
        select pg_proc.oid::regprocedure::text
        from pg_proc
        where
            pronamespace = 'analytics'::regnamespace
            and prosecdef
            and prorettype <> 'trigger'::regtype
            and (proacl is null or exists (
                select from aclexplode(proacl) as granted where granted.grantee = 0
            ))
        """
    ).fetchall()
    assert open_to_all == []


def test_rows_dated_in_the_future_are_outside_also_when_a_mart_holds_them(world: World) -> None:
    add(world, metrics(NOON + timedelta(hours=3)), metrics(NOON + timedelta(days=3)))
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 0
    assert world.check(as_of=NOON + timedelta(hours=4))["total_sessions"] == 1


def test_rows_dated_in_the_future_are_outside_also_while_no_mart_holds_them(world: World) -> None:
    world.build()
    add(world, metrics(NOON + timedelta(hours=3)), metrics(NOON - timedelta(days=2)))
    world.insert_session(0, archived(NOON + timedelta(hours=3)))
    assert world.check(as_of=NOON)["total_sessions"] == 1


def test_an_archival_that_is_moved_or_taken_back_leaves_no_trace(world: World) -> None:
    world.insert_session(0, archived(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "update sessions set archived_at = %s", [NOON - timedelta(days=9)])
    assert world.check(as_of=NOON, days=7)["archived_sessions"] == 0
    assert world.check(as_of=NOON)["archived_sessions"] == 1
    world.build()
    world.write(0, "update sessions set is_archived = false")
    assert world.check(as_of=NOON)["archived_sessions"] == 0
    world.check_incremental_equals_scratch()


def test_rows_that_look_the_same_are_corrected_one_by_one(world: World) -> None:
    add(world, *(metrics(NOON - timedelta(days=2)) for _ in range(3)))
    world.build()
    world.write(0, "update session_metrics set assets_analyzed = '[\"TSLA\"]'")
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "TSLA", "count": 3}]
    world.check_incremental_equals_scratch()


@pytest.mark.parametrize("is_built", [False, True])
def test_names_and_counts_out_of_range_are_set_aside(world: World, is_built: bool) -> None:
    names = ["", "x", "y" * 255, "z" * 256, None, 1, True, ["x"], {"x": 1}, "x"]
    counts = {"ok": 3, "": 3, "n" * 256: 3, "2.0": 2.0, "half": 2.5, "text": "2", "zero": 0}
    add(
        world,
        metrics(
            NOON - timedelta(days=2),
            assets=names,
            tags=names,
            query_types=counts | {"big": 2**31, "true": True, "minus": -1, "huge": 1e300},
        ),
    )
    if is_built:
        world.build()
    found = world.check(as_of=NOON)
    assert found["top_assets"] == [{"symbol": "x", "count": 2}, {"symbol": "y" * 255, "count": 1}]
    assert found["query_type_distribution"] == {"ok": 3, "2.0": 2}
    meta = world.read(as_of=NOON, include_meta=True)["meta"]
    assert meta["set_aside_values"] == 2 * 7 + 9


def test_a_row_of_a_transaction_older_than_the_build_is_not_lost(world: World) -> None:
    world.write(1, "begin")
    world.insert_metrics(1, [metrics(NOON - timedelta(days=2))], upsert=False)
    add(world, metrics(NOON - timedelta(days=2), user_id="bob"))
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.write(1, "commit")
    assert world.check(as_of=NOON)["total_sessions"] == 2
    world.build()
    world.prune()
    assert world.check(as_of=NOON)["total_sessions"] == 2
    world.check_incremental_equals_scratch()


def test_an_older_window_that_comes_late_folds_nothing_twice(world: World) -> None:
    world.build()
    world.open_window()
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    for mart in range(len(world.marts)):
        world.fold_one(0, mart)
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 1
    world.check_incremental_equals_scratch()


def test_pruning_keeps_what_one_mart_still_needs(world: World) -> None:
    world.build()
    add(world, metrics(NOON - timedelta(days=2)))
    world.open_window()
    for mart in range(len(world.marts) - 1):
        world.fold_one(0, mart)
    world.prune()
    world.check(as_of=NOON)
    world.build()
    world.check(as_of=NOON)
    world.check_incremental_equals_scratch()


def test_pruning_empties_the_feed_when_every_mart_has_folded_it(world: World) -> None:
    add(world, metrics(NOON))
    world.build()
    world.prune()
    assert world.builder.execute("select count(*) from analytics.session_changes").fetchone() == (
        0,
    )
    assert world.check(as_of=NOON + MICROSECOND)["total_sessions"] == 1


def test_a_rebuild_ends_at_its_window_while_writers_go_on(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    world.write(1, "begin")
    world.insert_metrics(1, [metrics(NOON - timedelta(days=1))], upsert=False)
    world.request_rebuild()
    world.open_window()
    add(world, metrics(NOON - timedelta(hours=30), user_id="bob"))
    world.write(1, "commit")
    for mart in range(len(world.marts)):
        world.fold_one(0, mart)
        assert world.check(as_of=NOON)["total_sessions"] == 3
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 3
    world.check_incremental_equals_scratch()


def test_tags_are_those_of_the_recording_whatever_becomes_of_the_session(world: World) -> None:
    session_id = UUID(int=1)
    world.write(
        0,
        "insert into sessions (id, type, tags, expires_at) values (%s, 'equity', '[\"old\"]', %s)",
        [session_id, NOON + timedelta(days=9000)],
    )
    world.insert_metrics(
        0, [metrics(NOON - timedelta(days=2), session=session_id, tags=None)], upsert=False
    )
    world.build()
    world.write(0, "update sessions set tags = '[\"new\"]' where id = %s", [session_id])
    found = world.check(as_of=NOON)
    assert found["popular_tags"] == [{"tag": "old", "count": 1}]


def test_a_key_whose_count_falls_to_zero_vanishes_from_mart_and_answer(world: World) -> None:
    gone = metrics(NOON - timedelta(days=2), assets=["GONE"], tags=["gone"])
    add(world, gone, metrics(NOON - timedelta(days=2)))
    world.build()
    world.write(0, "delete from session_metrics where session_id = %s", [gone.session])
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "AAPL", "count": 1}]
    world.build()
    assert world.check(as_of=NOON)["top_assets"] == [{"symbol": "AAPL", "count": 1}]
    assert [row[2] for row in world.rows()["daily_asset_counts"]] == ["AAPL"]


def test_ties_of_the_top_ten_are_ordered_by_bytes(world: World) -> None:
    names = ["b", "B", "a", "Z", "é", "ä", "_", "~", "1", "Ω", "😀", "aa"]
    add(world, metrics(NOON - timedelta(days=2), assets=names, tags=names))
    for _ in range(2):
        found = world.check(as_of=NOON)
        assert [row["symbol"] for row in found["top_assets"]] == sorted(
            names, key=lambda name: name.encode()
        )[:10]
        world.build()


def test_sums_that_would_overflow_32_bits_are_exact(world: World) -> None:
    for _ in range(3):
        add(
            world,
            metrics(
                NOON - timedelta(days=2),
                duration_seconds=2**31 - 1,
                total_queries=2**31 - 1,
                query_types={"price": 2**31 - 1},
            ),
        )
    for _ in range(2):
        assert world.check(as_of=NOON)["total_queries"] == 3 * (2**31 - 1)
        world.build()


@pytest.mark.parametrize(
    ("total_queries", "expected"),
    [([1] * 7 + [2], 1.13), ([0] * 7 + [1], 0.13), ([0] * 199 + [1], 0.01), ([0] * 201 + [1], 0.0)],
)
def test_averages_are_rounded_half_up(
    world: World, total_queries: list[int], expected: float
) -> None:
    for count in total_queries:
        add(world, metrics(NOON - timedelta(days=2), total_queries=count))
    assert world.check(as_of=NOON)["avg_queries_per_session"] == expected


def test_sessions_without_a_user_count_for_everybody_and_for_no_user(world: World) -> None:
    add(world, metrics(NOON - timedelta(days=2), user_id=None))
    for _ in range(2):
        assert world.check(as_of=NOON)["total_sessions"] == 1
        assert world.check(as_of=NOON, user_id="ann")["total_sessions"] == 0
        world.build()


def test_times_that_are_not_finite_are_in_no_window_and_stop_nothing(world: World) -> None:
    for at in ("infinity", "-infinity"):
        world.write(
            0,
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
            "values (gen_random_uuid(), 'equity', %s, 1)",
            [at],
        )
        world.write(
            0,
            "insert into sessions (id, type, is_archived, archived_at, expires_at) "
            "values (gen_random_uuid(), 'equity', true, %s, %s)",
            [at, at],
        )
    add(world, metrics(NOON - timedelta(days=2)))
    for _ in range(2):
        assert world.check(as_of=NOON, days=3650)["total_sessions"] == 1
        world.build()
    # Whoever adds up a whole mart gets what windows can have.
    assert world.writers[0].execute(
        "select sum(sessions) from marts.daily_session_stats"
    ).fetchone() == (1,)
    world.check_incremental_equals_scratch()


def test_an_active_session_is_open_and_expires_after_the_instant_of_the_read(world: World) -> None:
    for expires_at in (NOON - MICROSECOND, NOON, NOON + MICROSECOND, None):
        world.insert_session(0, session(MIDNIGHT, expires_at, "crypto", user_id="ann"))
    assert world.check(as_of=NOON)["active_sessions"] == 1
    assert world.check(as_of=NOON, user_id="ann")["active_sessions"] == 1
    assert world.check(as_of=NOON, session_type="equity")["active_sessions"] == 0


def test_erasing_a_user_takes_the_rows_out_of_every_figure_and_keeps_late_writes_out(
    world: World,
) -> None:
    add(world, metrics(NOON - timedelta(days=2)), metrics(NOON - timedelta(days=2), user_id="bob"))
    for user_id in ("ann", "bob"):
        world.insert_session(0, archived(NOON - timedelta(days=2), user_id))
    world.build()
    world.write(0, "select analytics.erase_user('ann')")
    assert world.check(as_of=NOON)["total_sessions"] == 1
    with pytest.raises(psycopg.Error, match="was erased"):
        world.writers[0].execute(
            "insert into sessions (id, user_id, type) values (gen_random_uuid(), 'ann', 'equity')"
        )
    for table in ("sessions", "session_metrics"):
        with pytest.raises(psycopg.Error, match="was erased"):
            world.writers[0].execute(f"update {table} set user_id = 'ann'")
    world.build()
    assert world.check(as_of=NOON)["archived_sessions"] == 1
    keys = world.builder.execute("select distinct user_key from marts.daily_user_stats").fetchall()
    assert len(keys) == 1
    world.check_incremental_equals_scratch()
    world.write(0, "select analytics.forget_erasure('ann')")
    add(world, metrics(NOON - timedelta(days=2)))
    assert world.check(as_of=NOON)["total_sessions"] == 2


def test_what_copy_and_cascades_write_is_in_the_feed(world: World) -> None:
    connection = world.writers[0]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, assets_analyzed) from stdin"
        ) as copy,
    ):
        for number in range(50):
            copy.write_row(
                (uuid4(), f"user {number}", "equity", NOON - timedelta(days=2), 5, '["AAPL"]')
            )
    world.build()
    assert world.check(as_of=NOON)["total_sessions"] == 50
    connection.execute("create table app_users (id varchar(255) primary key)")
    connection.execute("insert into app_users select distinct user_id from session_metrics")
    connection.execute(
        "alter table session_metrics add foreign key (user_id) references app_users "
        "on delete cascade on update cascade"
    )
    connection.execute("delete from app_users where id < 'user 3'")
    connection.execute("update app_users set id = 'renamed' where id = 'user 45'")
    world.check(as_of=NOON)
    assert world.check(as_of=NOON, user_id="renamed")["total_sessions"] == 1
    world.check_incremental_equals_scratch()
    connection.execute("drop table app_users cascade")


def test_truncate_is_refused_with_a_hint(world: World) -> None:
    for table in ("sessions", "session_metrics"):
        with pytest.raises(psycopg.errors.RaiseException, match="TRUNCATE") as refusal:
            world.writers[0].execute(f"truncate {table}")
        assert "DELETE" in str(refusal.value)


def test_a_window_cannot_be_opened_where_its_snapshot_would_be_too_old(world: World) -> None:
    world.builder.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        world.builder.execute("select analytics.open_window('x')")
    world.builder.rollback()
    world.builder.execute("begin")
    world.builder.execute(
        "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
        "values (gen_random_uuid(), 'equity', now(), 1)"
    )
    with pytest.raises(psycopg.errors.RaiseException, match="wrote to the change feed"):
        world.builder.execute("select analytics.open_window('x')")
    world.builder.rollback()


class TestRetention:
    @pytest.fixture
    def kept_from(self, world: World) -> datetime:
        for day in range(6):
            for hour in (-3, 3):
                at = NOON - timedelta(days=day) + timedelta(hours=hour)
                add(world, metrics(at), metrics(at, user_id="bob", session_type="crypto"))
                world.insert_session(0, archived(at))
        world.build()
        row = world.builder.execute(
            "select analytics.apply_retention(%s)", [NOON - timedelta(days=2)]
        ).fetchone()
        assert row == (MIDNIGHT - timedelta(days=2),)
        return MIDNIGHT - timedelta(days=2)

    def test_figures_of_whole_days_stay_when_their_rows_go(
        self, world: World, kept_from: datetime
    ) -> None:
        remaining = world.builder.execute("select count(*), min(created_at) from session_metrics")
        count, first = remaining.fetchone() or (0, None)
        assert count == 12
        assert first is not None
        assert first >= kept_from
        assert self.totals(world, days=30) == (24, 12)
        # A window that begins behind the horizon begins at the midnight before it.
        assert self.totals(world, days=4) == (20, 10)

    def test_a_build_and_a_rebuild_keep_the_days_behind_the_horizon(
        self, world: World, kept_from: datetime
    ) -> None:
        before = world.rows()
        world.build()
        world.request_rebuild()
        world.build()
        assert world.rows() == before
        assert self.totals(world, days=30) == (24, 12)

    def test_windows_after_the_horizon_stay_exact(self, world: World, kept_from: datetime) -> None:
        world.check(days=2, as_of=NOON)
        add(world, metrics(NOON - timedelta(days=1)))
        world.check(days=2, as_of=NOON)

    def test_a_user_s_window_begins_at_the_horizon(self, world: World, kept_from: datetime) -> None:
        assert self.totals(world, days=30, user_id="bob")[0] == 6

    def test_rows_for_the_time_behind_the_horizon_are_quarantined(
        self, world: World, kept_from: datetime
    ) -> None:
        add(world, metrics(kept_from - MICROSECOND))
        world.insert_session(0, archived(kept_from - MICROSECOND))
        assert self.totals(world, days=30) == (24, 12)
        reasons = world.builder.execute(
            "select fact, reason from analytics.quarantine order by fact"
        ).fetchall()
        assert reasons == [
            ("late archival", "archived before the retention horizon"),
            ("metrics", "created before the retention horizon"),
        ]

    def test_rows_exactly_at_the_horizon_are_kept_and_admitted(
        self, world: World, kept_from: datetime
    ) -> None:
        add(world, metrics(kept_from))
        world.insert_session(0, archived(kept_from))
        assert self.totals(world, days=30) == (25, 13)
        world.build()
        world.builder.execute("select analytics.apply_retention(%s)", [kept_from])
        assert self.totals(world, days=30) == (25, 13)
        world.check_incremental_equals_scratch()

    def test_rows_that_are_moved_behind_the_horizon_are_quarantined(
        self, world: World, kept_from: datetime
    ) -> None:
        world.write(
            0,
            "update session_metrics set created_at = %s where created_at = "
            "(select max(created_at) from session_metrics) and user_id = 'bob'",
            [kept_from - timedelta(hours=1)],
        )
        world.write(
            0,
            "update sessions set archived_at = %s where archived_at = "
            "(select max(archived_at) from sessions)",
            [kept_from - timedelta(hours=1)],
        )
        assert self.totals(world, days=30) == (23, 11)
        world.check_incremental_equals_scratch()
        assert self.totals(world, days=30) == (23, 11)

    def test_it_waits_for_a_rebuild_that_was_asked_for(
        self, world: World, kept_from: datetime
    ) -> None:
        world.request_rebuild()
        with pytest.raises(psycopg.errors.RaiseException, match="do not hold every row"):
            world.builder.execute(
                "select analytics.apply_retention(%s)", [NOON + timedelta(days=1)]
            )

    def test_erasing_someone_takes_what_was_quarantined_too(
        self, world: World, kept_from: datetime
    ) -> None:
        add(world, metrics(kept_from - MICROSECOND))
        world.write(0, "select analytics.erase_user('ann')")
        world.build()
        assert world.builder.execute("select from analytics.quarantine").fetchall() == []
        assert all(row[3] > 0 for row in world.rows()["daily_user_stats"])

    def test_erasing_someone_whose_rows_are_gone_removes_mapping_and_own_days_only(
        self, world: World, kept_from: datetime
    ) -> None:
        world.write(0, "delete from session_metrics where user_id = 'bob'")
        world.build()
        before = self.totals(world, days=30)
        world.write(0, "select analytics.erase_user('bob')")
        world.build()
        assert self.totals(world, days=30) == before
        keys = {row[1] for row in world.rows()["daily_user_stats"]}
        known = world.builder.execute(
            "select user_key from analytics.user_keys where user_id = 'ann'"
        ).fetchone()
        assert keys == set(known or ())

    def test_the_answer_from_the_source_still_has_the_days_behind_the_horizon(
        self, world: World, kept_from: datetime
    ) -> None:
        before = self.totals(world, days=30)
        world.builder.execute("update analytics.watermarks set system_identifier = 1")
        assert self.totals(world, days=30) == before
        world.build()
        assert self.totals(world, days=30) == before

    def test_it_waits_for_sessions_that_are_not_archived_and_for_a_build(
        self, world: World, kept_from: datetime
    ) -> None:
        created_at = NOON - timedelta(days=1, hours=2)
        world.insert_session(0, session(created_at, created_at))
        reached = world.builder.execute(
            "select analytics.apply_retention(%s)", [NOON + timedelta(days=5)]
        ).fetchone()
        assert reached == (MIDNIGHT - timedelta(days=1),)
        add(world, metrics(NOON))
        world.write(0, "update sessions set is_archived = true, archived_at = now()")
        with pytest.raises(psycopg.errors.RaiseException, match="do not hold every row"):
            world.builder.execute(
                "select analytics.apply_retention(%s)", [NOON + timedelta(days=1)]
            )

    @staticmethod
    def totals(world: World, days: int, user_id: str | None = None) -> tuple[int, int]:
        found = world.read(days=days, user_id=user_id, as_of=NOON + timedelta(hours=4))
        return found["total_sessions"], found["archived_sessions"]


@pytest.fixture
def restored(world: World, copy_database: Callable[[], World]) -> World:
    add(world, metrics(NOON - timedelta(days=2)), metrics(NOON - timedelta(days=40)))
    world.build()
    add(world, metrics(NOON - timedelta(days=2)))
    return copy_database()


def test_after_a_dump_and_restore_answers_are_exact_at_once_and_after_the_next_build(
    restored: World,
) -> None:
    assert restored.check(as_of=NOON)["total_sessions"] == 2
    for _ in range(40):
        add(restored, metrics(NOON - timedelta(days=1)))
    assert restored.check(as_of=NOON)["total_sessions"] == 42
    restored.build()
    assert restored.check(as_of=NOON)["total_sessions"] == 42
    states = restored.builder.execute("select watermark from analytics.mart_states").fetchall()
    assert all(row[0] is not None for row in states)
    restored.check_incremental_equals_scratch()
