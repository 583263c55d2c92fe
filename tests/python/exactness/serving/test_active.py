"""Sessions that are active, as the serving layer knows them."""

from __future__ import annotations

from exactness.examples import add, metrics, session
from exactness.moments import DAY, HOUR, MICROSECOND, MIDNIGHT, NOON
from exactness.serving.layer import check
from exactness.world import World


def test_what_opens_ends_and_closes_is_active_for_the_instant_that_is_asked_for(
    world: World,
) -> None:
    world.clear()
    # A heavy user among others.
    add(world, *(metrics(NOON - HOUR * number) for number in range(1, 4)))
    rows = [
        session(MIDNIGHT, expires_at, kind, user_id=user_id)
        for expires_at in (None, NOON - HOUR, NOON, NOON + MICROSECOND, NOON + DAY)
        for kind in ("equity", "unheard-of")
        for user_id in ("ann", None)
    ]
    for row in rows[::3]:
        world.insert_session(0, row)
    world.build()
    for row in (*rows[1::3], *rows[2::3]):
        world.insert_session(0, row)
    for _ in range(2):
        for as_of in (NOON - 2 * HOUR, NOON - HOUR, NOON, NOON + MICROSECOND, NOON + 2 * DAY):
            for kind in (None, "equity", "unheard-of"):
                world.check(as_of=as_of, session_type=kind)
            check(world, as_of=as_of, user_id="ann")
        world.write(0, "update sessions set expires_at = %s where expires_at < %s", [NOON, NOON])
        world.write(
            0, "update sessions set user_id = null, type = 'equity' where id = %s", [rows[0].id]
        )
        check(world)
        world.write(0, "select analytics.archive_session(%s)", [rows[1].id])
        check(world)
        world.build()
    world.check_incremental_equals_scratch()
