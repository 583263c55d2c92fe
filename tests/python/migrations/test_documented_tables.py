"""From tables made by the documented statements, with rows in them."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from migrations.ground import (
    DOCUMENTED_DDL,
    WRITE_METRICS,
    Connection,
    build,
    check_figures,
    connected,
    stats,
    value,
    write,
)
from psycopg import errors

from fiml.sessions.migrations import migrate
from fiml.warehouse.project import Mart


def test_both_ways_lead_to_the_same_columns(make_database: Callable[..., str]) -> None:
    def columns(conninfo: str) -> list[tuple[Any, ...]]:
        with connected(conninfo) as connection:
            return connection.execute(
                "select table_name, column_name, data_type, is_nullable, is_identity, "
                "is_generated, generation_expression, column_default "
                "from information_schema.columns where table_schema = 'public' order by 1, 2"
            ).fetchall()

    empty, documented = make_database(), make_database()
    with connected(documented) as connection:
        connection.execute(DOCUMENTED_DDL.encode())
    for conninfo in (empty, documented):
        migrate(conninfo)
    assert columns(documented) == columns(empty)


def test_rows_that_were_there_count_before_the_first_build_and_after_it(
    documented: Connection, empty_database: str, marts: tuple[Mart, ...]
) -> None:
    for user_id, kind in (("ann", "equity"), ("ann", "macro"), ("bob", "equity"), (None, "old")):
        write(documented, user_id, kind)
    migrate(empty_database)
    before = check_figures(empty_database)
    assert before["total_sessions"] == before["archived_sessions"] == 4
    assert before["top_assets"] == [{"symbol": "AAPL", "count": 4}, {"symbol": "MSFT", "count": 4}]
    assert before["popular_tags"] == [{"tag": "growth", "count": 4}, {"tag": "tech", "count": 4}]
    build(empty_database, marts)
    assert check_figures(empty_database) == before
    meta = stats(empty_database, include_meta=True)["meta"]
    assert (meta["path"], meta["serving_rows"] > 0) == ("serving", True)


def test_of_several_metrics_of_one_session_the_highest_id_stays(
    documented: Connection, empty_database: str
) -> None:
    session_id = uuid4()
    documented.execute(WRITE_METRICS, [uuid4(), "ann", "equity"])
    for written_id, count in ((2, 5), (9, 7), (4, 6)):
        documented.execute(
            "insert into session_metrics (id, session_id, session_type, created_at, "
            "duration_seconds, total_queries) values (%s, %s, 'equity', now(), 1, %s)",
            [written_id, session_id, count],
        )
    migrate(empty_database)
    rows = documented.execute("select id, total_queries from session_metrics order by id desc")
    assert rows.fetchone() == (9, 7)
    assert value(documented, "select count(*) from session_metrics") == 2
    assert check_figures(empty_database)["total_queries"] == 10
    with pytest.raises(errors.UniqueViolation):
        documented.execute(WRITE_METRICS, [session_id, "ann", "equity"])


def test_tags_are_copied_once(documented: Connection, empty_database: str) -> None:
    session_id = write(documented)
    documented.execute(WRITE_METRICS, [uuid4(), "ann", "equity"])
    migrate(empty_database)
    documented.execute("update sessions set tags = '[\"later\"]' where id = %s", [session_id])
    migrate(empty_database)
    found = documented.execute("select tags from session_metrics order by id").fetchall()
    # Metrics whose session is not there have none, and count as such.
    assert found == [(["tech", "growth"],), (None,)]
    assert check_figures(empty_database)["popular_tags"] == [
        {"tag": "growth", "count": 1},
        {"tag": "tech", "count": 1},
    ]


def test_sessions_without_an_expiry_are_never_active(
    documented: Connection, empty_database: str
) -> None:
    documented.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    migrate(empty_database)
    assert value(documented, "select expires_at from sessions") is None
    assert check_figures(empty_database)["active_sessions"] == 0
    documented.execute("update sessions set expires_at = now() + interval '1 hour'")
    assert check_figures(empty_database)["active_sessions"] == 1


def test_a_session_without_a_creation_time_began_when_its_metrics_say(
    documented: Connection, empty_database: str
) -> None:
    write(documented)
    migrate(empty_database)
    assert value(
        documented,
        "select sessions.created_at = session_metrics.created_at from sessions "
        "join session_metrics on session_id = sessions.id",
    )


@pytest.mark.parametrize("highest", [None, 3, 2**31 - 1])
def test_the_serial_becomes_a_bigint_identity_that_goes_on_after_the_highest_id(
    documented: Connection, empty_database: str, highest: int | None
) -> None:
    if highest is not None:
        write(documented)
        # Past what the sequence knows.
        documented.execute("update session_metrics set id = %s", [highest])
    migrate(empty_database)
    write(documented)
    write(documented)
    first = 1 if highest is None else highest + 1
    found = [row[0] for row in documented.execute("select id from session_metrics order by id")]
    assert found[-2:] == [first, first + 1]
    columns = documented.execute(
        "select data_type, is_identity, identity_generation from information_schema.columns "
        "where table_name = 'session_metrics' and column_name = 'id'"
    ).fetchall()
    assert columns == [("bigint", "YES", "BY DEFAULT")]
    # The one that the column had before is gone.
    sequences = (
        "select count(*) from pg_class "
        "where relkind = 'S' and relnamespace = 'public'::regnamespace"
    )
    assert value(documented, sequences) == 1


RATES = {
    "": (None, None),
    "nan": (None, None),
    "NaN": (None, None),
    "inf": (None, None),
    "1e400": (None, None),
    "-0.5": (None, None),
    " 0.5": (None, None),
    "0.5\n": (None, None),
    "0x1": (None, None),
    "\u0661": (None, None),
    ".5": (None, None),
    "9" * 50: (None, None),
    "0.5": ("0.5", "0.5"),
    "0.0": ("0.0", "0.0"),
    "1": ("1", "1"),
    "1.01": (None, "1.01"),
    "12.125": (None, "12.125"),
}


@pytest.mark.parametrize("is_there_before", [True, False])
def test_text_rates_have_numeric_twins_where_they_are_numbers_in_range(
    documented: Connection, empty_database: str, is_there_before: bool
) -> None:
    if not is_there_before:
        migrate(empty_database)
    for rate in RATES:
        documented.execute(
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds, "
            "cache_hit_rate, avg_query_time_ms) "
            "values (gen_random_uuid(), 'equity', now(), 1, %s, %s)",
            [rate, rate],
        )
    if is_there_before:
        migrate(empty_database)
    rows = documented.execute(
        "select cache_hit_rate, cache_hit_rate_fraction::text, avg_query_ms::text "
        "from session_metrics"
    ).fetchall()
    assert {row[0]: row[1:] for row in rows} == RATES
    set_aside = sum(twins.count(None) for twins in RATES.values())
    found = stats(empty_database, include_meta=True)
    assert found["meta"]["set_aside_values"] == set_aside
    assert found["total_sessions"] == len(RATES)


def test_a_writer_that_knows_only_the_documented_columns_still_works(
    documented: Connection, empty_database: str
) -> None:
    migrate(empty_database)
    write(documented)
    session_id = uuid4()
    documented.execute(
        "insert into sessions values (%s, 'bob', 'equity', '[\"tech\"]', true, now())", [session_id]
    )
    documented.execute(
        "insert into session_metrics values (default, %s, 'bob', 'equity', now(), 60, 1, '0.5', "
        "null, '[\"AAPL\"]', '{\"price\": 1}', false, true)",
        [session_id],
    )
    # Ids that the writer chooses are taken too.
    documented.execute(
        "insert into session_metrics values (77, %s, 'bob', 'equity', now(), 60)", [uuid4()]
    )
    with (
        documented.cursor() as cursor,
        cursor.copy(
            "copy session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, total_queries, cache_hit_rate, avg_query_time_ms, assets_analyzed, "
            "query_type_summary, completed_normally, abandoned) from stdin"
        ) as copy,
    ):
        for number in range(20):
            copy.write_row(
                (
                    uuid4(),
                    f"user {number % 3}",
                    "macro",
                    "2020-01-01Z" if number == 0 else "yesterday",
                    5,
                    2,
                    "0.5",
                    None,
                    '["GOLD"]',
                    '{"price": 2}',
                    False,
                    False,
                )
            )
    found = check_figures(empty_database)
    assert found["session_type_breakdown"] == {"macro": 19, "equity": 3}
    assert found["popular_tags"] == [{"tag": "tech", "count": 2}, {"tag": "growth", "count": 1}]
    assert found["archived_sessions"] == 2


def test_tables_with_columns_of_the_application_s_own_keep_them(
    documented: Connection, empty_database: str
) -> None:
    documented.execute(
        "alter table sessions add device text not null default 'phone', "
        "add expires_at timestamptz not null default now() + interval '1 hour', "
        "add created_at timestamptz not null default '2020-01-01Z'"
    )
    documented.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
    migrate(empty_database)
    assert value(documented, "select device from sessions") == "phone"
    assert value(documented, "select created_at = '2020-01-01Z' from sessions")
    assert check_figures(empty_database)["active_sessions"] == 1
