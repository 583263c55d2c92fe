"""Figures of whole days stay behind the horizon, and what comes too late is set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from exactness.examples import add, archived, metrics, session
from exactness.moments import MICROSECOND, MIDNIGHT, NOON
from exactness.world import World


@pytest.mark.parametrize("keep_from", ["null", "'infinity'"])
def test_retention_without_a_time_drops_nothing(world: World, keep_from: str) -> None:
    add(world, metrics(NOON - timedelta(days=2)))
    world.build()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        world.builder.execute(f"select analytics.apply_retention({keep_from})")
    assert world.check(as_of=NOON)["total_sessions"] == 1


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


@pytest.mark.parametrize("user_id", ["ann", None])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds) values (gen_random_uuid(), %(user)s, 'equity', %(late)s, 1)",
        "update session_metrics set created_at = %(late)s where created_at > %(kept_from)s",
        "insert into sessions (id, user_id, type, is_archived, archived_at) "
        "values (gen_random_uuid(), %(user)s, 'equity', true, %(late)s)",
        "update sessions set archived_at = %(late)s where is_archived",
    ],
)
def test_a_writer_with_an_old_snapshot_writes_nothing_behind_a_horizon_it_cannot_see(
    world: World, statement: str, user_id: str | None
) -> None:
    kept_from = NOON - timedelta(days=2)
    add(world, metrics(NOON - timedelta(days=5)), metrics(NOON - timedelta(days=1), user_id=None))
    world.insert_session(0, archived(NOON - timedelta(days=1), user_id))
    world.build()
    world.writers[1].execute("begin isolation level repeatable read")
    world.writers[1].execute("select from sessions")
    world.builder.execute("select analytics.apply_retention(%s)", [kept_from])
    with pytest.raises(psycopg.errors.SerializationFailure):
        world.writers[1].execute(
            statement,
            {"user": user_id, "late": NOON - timedelta(days=5), "kept_from": kept_from},
        )
    world.writers[1].rollback()
    world.check_incremental_equals_scratch()


def test_a_rebuild_keeps_what_is_behind_the_horizon_in_any_time_zone(world: World) -> None:
    """Where a span of days, counted in local ones, would reach into the next."""
    world.builder.execute("set timezone to 'Europe/Berlin'")
    first, second = datetime(2025, 10, 20, 12, tzinfo=UTC), datetime(2025, 10, 28, 12, tzinfo=UTC)
    add(world, metrics(first, assets=["first"]), metrics(second, assets=["second"]))
    world.build()
    world.builder.execute("select analytics.apply_retention(%s)", [NOON])
    world.request_rebuild()
    world.build()
    # Days in which a running total of each span is the nearest.
    for days in range(130, 180):
        question = {"as_of": NOON, "days": days}
        found = world.read(**question, path="serving")
        assert found == world.read(**question, path="marts")
