"""Random histories: what writers write, when builds run, what readers ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from exactness.moments import MICROSECOND, NOON
from exactness.world import WRITERS, Metrics, Session, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from fiml.sessions.periods import Grain, Window

Step = Callable[[World], object]

COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
    print_blob=True,
)

SESSIONS = st.integers(1, 14).map(lambda number: UUID(int=number))
USERS = st.sampled_from([None, "ann", "bob", "ΑΓΓΕΛΟΣ", "O'Brien"])
TYPES = st.sampled_from(["equity", "crypto", "macro", "unheard-of"])
DAYS = st.sampled_from([1, 1, 2, 7, 30, 90])

# Many moments coincide, or lie a microsecond beside a midnight, a window's edge, or where that is
# as near to one bucket, hour, day or span as to the next.
MOMENTS = st.builds(
    lambda days, hours, seconds, microseconds: (
        NOON + timedelta(days=days, hours=hours, seconds=seconds) + microseconds * MICROSECOND
    ),
    st.sampled_from([-95, -31, -30, -29, -8, -7, -3, -2, -1, -1, 0, 0, 1]),
    st.sampled_from([-12, -12, 0, 0, 3, 11, 12]),
    st.sampled_from([0, 0, 0, 0, 150, 300, 1800]),
    st.sampled_from([-1, 0, 0, 1]),
)
EXPIRIES = st.one_of(
    st.none(),
    MOMENTS,
    st.just(datetime(9999, 1, 1, tzinfo=UTC)),
)

NAMES = st.sampled_from(["AAPL", "aapl", "TSLA", "Ω", "éa", "e\u0301a", "😀", " MSFT", "_", "Z"])
ODD = st.sampled_from([None, 1, True, "", "x" * 256, ["AAPL"], {"a": 1}, 2.5])
LISTS = st.one_of(
    st.lists(NAMES, max_size=4),
    st.lists(NAMES, max_size=4),
    st.lists(st.one_of(NAMES, ODD), max_size=4),
    st.sampled_from([None, "AAPL", 7, {"AAPL": 1}, {}]),
)
COUNTS = st.one_of(
    st.integers(1, 5),
    st.sampled_from([0, -1, 2.0, 2.5, "2", True, None, 2**31 - 1, 2**31, 1e30, [1]]),
)
OBJECTS = st.one_of(
    st.dictionaries(st.sampled_from(["price", "news", "", "Ω", "y" * 256]), COUNTS, max_size=3),
    st.sampled_from([None, [], "price", 3]),
)
METRICS = st.builds(
    Metrics,
    session=SESSIONS,
    user_id=USERS,
    session_type=TYPES,
    created_at=MOMENTS,
    duration_seconds=st.sampled_from([0, 1, 59, 3600, -5, 2**31 - 1]),
    total_queries=st.sampled_from([0, 1, 2, 3, -1, 2**31 - 1]),
    assets=LISTS,
    query_types=OBJECTS,
    tags=st.one_of(st.none(), LISTS),
    abandoned=st.booleans(),
    completed=st.booleans(),
)
SESSION_ROWS = st.builds(
    Session,
    id=SESSIONS,
    user_id=USERS,
    session_type=TYPES,
    tags=LISTS,
    created_at=MOMENTS,
    expires_at=EXPIRIES,
    is_archived=st.booleans(),
    archived_at=st.one_of(st.none(), MOMENTS),
)
WRITER = st.integers(0, WRITERS - 1)


def _statement(writer: int, statement: str, *parameters: object) -> Step:
    return lambda world: world.write(writer, statement, parameters)


WRITES: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda writer, rows, upsert: (
            lambda world: world.insert_metrics(writer, rows, upsert=upsert)
        ),
        WRITER,
        st.lists(METRICS, min_size=1, max_size=3),
        st.booleans(),
    ),
    st.builds(
        lambda writer, row: lambda world: world.insert_session(writer, row), WRITER, SESSION_ROWS
    ),
    st.builds(
        lambda writer, session, moment: _statement(
            writer,
            "update session_metrics set created_at = %s, total_queries = total_queries / 2 + 1 "
            "where session_id = %s",
            moment,
            session,
        ),
        WRITER,
        SESSIONS,
        MOMENTS,
    ),
    st.builds(
        lambda writer, user, kind: _statement(
            writer, "update session_metrics set session_type = %s where user_id = %s", kind, user
        ),
        WRITER,
        USERS,
        TYPES,
    ),
    st.builds(
        lambda writer, session, user: _statement(
            writer, "update session_metrics set user_id = %s where session_id = %s", user, session
        ),
        WRITER,
        SESSIONS,
        USERS,
    ),
    st.builds(
        lambda writer, session: _statement(
            writer, "update session_metrics set recorded_at = now() where session_id <> %s", session
        ),
        WRITER,
        SESSIONS,
    ),
    st.builds(
        lambda writer, session, kind, moment: _statement(
            writer,
            "update sessions set type = %s, is_archived = not is_archived, archived_at = %s "
            "where id <> %s",
            kind,
            moment,
            session,
        ),
        WRITER,
        SESSIONS,
        TYPES,
        st.one_of(st.none(), MOMENTS),
    ),
    st.builds(
        lambda writer, session, user: _statement(
            writer, "update sessions set user_id = %s where id = %s", user, session
        ),
        WRITER,
        SESSIONS,
        USERS,
    ),
    st.builds(
        lambda writer, session, table: _statement(
            writer,
            "delete from session_metrics where session_id = %s"
            if table
            else "delete from sessions where id = %s",
            session,
        ),
        WRITER,
        SESSIONS,
        st.booleans(),
    ),
    st.builds(
        lambda writer, user: _statement(writer, "select analytics.erase_user(%s)", user),
        WRITER,
        st.sampled_from(["ann", "bob"]),
    ),
    st.builds(
        lambda writer: _statement(writer, "select analytics.archive_expired_sessions(5)"), WRITER
    ),
    st.builds(
        lambda writer, session: _statement(writer, "select analytics.archive_session(%s)", session),
        WRITER,
        SESSIONS,
    ),
    st.builds(
        lambda writer, session: _statement(
            writer,
            'select analytics.record_session_metrics(%s, \'{"type": "equity", '
            '"created_at": "2026-03-20T10:00:00+00:00", "tags": ["late"]}\')',
            session,
        ),
        WRITER,
        SESSIONS,
    ),
)

TRANSACTIONS: st.SearchStrategy[Step] = st.builds(
    _statement,
    WRITER,
    st.sampled_from(
        [
            "begin",
            "begin",
            "begin isolation level repeatable read",
            "commit",
            "commit",
            "rollback",
            "savepoint here",
            "rollback to savepoint here",
        ]
    ),
)

LAYOUTS = st.fixed_dictionaries(
    {},
    optional={
        "bucket_width": st.sampled_from(["1 minute", "5 minutes", "30 minutes"]),
        "hour_width": st.sampled_from(["30 minutes", "1 hour", "12 hours"]),
        "running_days": st.sampled_from([1, 8, 64]),
        "heavy_users": st.sampled_from([0, 1, 2]),
        "keyed_names": st.sampled_from([0, 3, 1_000_000]),
    },
).filter(bool)

BUILDS: st.SearchStrategy[Step] = st.one_of(
    st.just(World.build),
    st.just(World.build),
    st.just(World.open_window),
    st.builds(
        lambda window, mart: lambda world: world.fold_one(window, mart),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    st.just(World.request_rebuild),
    st.just(World.prune),
    LAYOUTS.map(lambda widths: lambda world: world.set_layout(**widths)),
)

# At a moment of the history, or at the real now, from which it takes years to look back on it.
INSTANTS = st.one_of(st.tuples(DAYS, MOMENTS), st.just((3650, None)))
READS: st.SearchStrategy[Step] = st.builds(
    lambda user_id, session_type, instant: (
        lambda world: world.check(
            user_id=user_id, session_type=session_type, days=instant[0], as_of=instant[1]
        )
    ),
    st.one_of(st.none(), st.none(), USERS),
    st.one_of(st.none(), st.none(), TYPES),
    INSTANTS,
)

# Wide ones with short periods would take a second each.
SERIES = st.one_of(
    st.tuples(st.sampled_from([1, 2, 7]), st.just(Grain.HOUR)),
    st.tuples(DAYS, st.sampled_from([Grain.DAY, Grain.WEEK, Grain.MONTH])),
)
ZONES = st.sampled_from(
    ["UTC", "Europe/Athens", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"]
)
SERIES_READS: st.SearchStrategy[Step] = st.builds(
    lambda user_id, session_type, series, zone, until, as_of: (
        lambda world: world.check_series(
            user_id=user_id,
            session_type=session_type,
            window=Window(timedelta(days=series[0]), until=until),
            grain=series[1],
            zone=ZoneInfo(zone),
            as_of=as_of,
        )
    ),
    st.one_of(st.none(), st.none(), USERS),
    st.one_of(st.none(), st.none(), TYPES),
    SERIES,
    ZONES,
    st.one_of(st.none(), MOMENTS),
    MOMENTS,
)


def _beginning(rows: list[Metrics], sessions: list[Session], is_built: bool) -> list[Step]:
    steps: list[Step] = [
        lambda world: world.insert_metrics(0, rows, upsert=True),
        *(lambda world, row=row: world.insert_session(0, row) for row in sessions),
    ]
    return [*(steps if rows else steps[1:]), *([World.build] if is_built else [])]


# Most histories begin with something, and are read from the serving layer, which a build fills.
BEGINNINGS = st.builds(
    _beginning,
    st.lists(METRICS, max_size=6, unique_by=lambda row: row.session),
    st.lists(SESSION_ROWS, max_size=3),
    st.sampled_from([True, True, False]),
)
STEPS = st.builds(
    lambda beginning, steps: [*beginning, *steps],
    BEGINNINGS,
    st.lists(
        st.one_of(WRITES, WRITES, WRITES, TRANSACTIONS, BUILDS, BUILDS, READS, READS, SERIES_READS),
        min_size=5,
        max_size=40,
    ),
)


def play(world: World, steps: Sequence[Step]) -> None:
    """Play a history from its first row, then compare reader, marts and a rebuild from scratch."""
    world.clear()
    for step in steps:
        step(world)
    for days in (1, 90):
        world.check(days=days, as_of=NOON)
    world.check_incremental_equals_scratch()
    world.check(days=3650)
