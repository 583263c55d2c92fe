"""What BI tools find in the schema marts: types, comments, keys, and dimensions without a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from roles.installation import Installation, one
from spreading import every
from warehouse.application import VIEWS, dbt, record_metrics

from fiml.sessions.migrations import migrate
from fiml.sessions.roles import Purpose
from fiml.sessions.session_types import SessionType
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.documentation import load_manifest, relationships
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

NOWHERE = Settings(conninfo="host=127.0.0.1 port=1 dbname=nowhere")
# What every tool knows, and no JSON.
TYPES = {
    "bigint",
    "boolean",
    "date",
    "integer",
    "numeric(24,3)",
    "numeric(7,6)",
    "text",
    "timestamp with time zone",
    "uuid",
}
COLUMNS = """
select
    pg_class.relname,
    pg_attribute.attname,
    format_type(pg_attribute.atttypid, pg_attribute.atttypmod),
    obj_description(pg_class.oid, 'pg_class'),
    col_description(pg_class.oid, pg_attribute.attnum)
from pg_class
inner join pg_attribute on pg_class.oid = pg_attribute.attrelid
where
    pg_class.relnamespace = 'marts'::regnamespace
    and pg_class.relkind in ('r', 'v')
    and pg_attribute.attnum > 0
    and not pg_attribute.attisdropped
"""


@pytest.fixture(scope="module")
def built(server: Any) -> Iterator[str]:
    """The name of a database to copy: built, and without a session."""
    name = server.create_database()
    try:
        migrate(server.conninfo(name))
        build(Settings(conninfo=server.conninfo(name)))
        yield name
    finally:
        server.drop_database(name)


@pytest.fixture
def settings(make_database: Callable[..., str], built: str) -> Settings:
    return Settings(conninfo=make_database(built))


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return load_manifest(NOWHERE)


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of the schema, by their names."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
        and node["schema"] == "marts"
        and node["config"]["materialized"] != "ephemeral"
    }


def test_bi_finds_the_types_and_the_descriptions_of_the_models(
    installation: Installation, models: dict[str, dict[str, Any]]
) -> None:
    with installation.connected(Purpose.BI) as bi:
        found = set(bi.execute(COLUMNS).fetchall())
    assert found == {
        (
            model["name"],
            column["name"],
            column["data_type"].replace(", ", ","),
            model["description"],
            column["description"],
        )
        for model in models.values()
        for column in model["columns"].values()
    }
    assert {type_name for _, _, type_name, _, _ in found} == TYPES


def test_the_calendar_has_every_day_of_its_years_as_python_knows_them(
    installation: Installation,
) -> None:
    with installation.connected(Purpose.BI) as bi:
        today = one(bi, "select (now() at time zone 'UTC')::date")
        first = one(
            bi,
            "select min(activity_date) from marts.daily_session_stats "
            "where activity_date >= '2000-01-01'",
        )
        found = bi.execute("select * from marts.dim_date order by activity_date").fetchall()
    days = [date(first.year, 1, 1)]
    while days[-1] < date(today.year, 12, 31):
        days.append(days[-1] + timedelta(1))
    # The two clocks that were wrong.
    days = [date(1999, 6, 15), *days, date(2199, 6, 15)]
    assert found == [
        (
            day,
            day.year,
            quarter := (day.month + 2) // 3,
            day.month,
            day.day,
            (iso := day.isocalendar()).year,
            iso.week,
            iso.weekday,
            f"{day.year}-Q{quarter}",
            f"{day:%Y-%m}",
            f"{iso.year}-W{iso.week:02}",
            f"{day:%B}",
            f"{day:%A}",
            iso.weekday in {6, 7},
            day - timedelta(day.weekday()),
            day.replace(day=1),
        )
        for day in days
    ]


def test_the_known_types_are_those_of_the_library_and_others_say_what_they_are(
    installation: Installation,
) -> None:
    with installation.connected(Purpose.BI) as bi:
        found = set(bi.execute("select * from marts.dim_session_type").fetchall())
    assert found == {
        *((kind.value, kind.name.capitalize(), True) for kind in SessionType),
        ("Equity", "Equity (unknown)", False),
    }


def test_a_user_has_a_row_and_one_stands_for_sessions_without_a_user(
    installation: Installation,
) -> None:
    with installation.connected(Purpose.BI) as bi:
        found = set(bi.execute("select * from marts.dim_user").fetchall())
    with installation.connected() as database:
        keys = set(
            database.execute("select user_key, user_id is null from analytics.user_keys").fetchall()
        )
    assert found == keys
    assert [is_anonymous for _, is_anonymous in found].count(True) == 1


def test_every_key_of_a_dimension_is_declared_wherever_it_stands_and_found(
    installation: Installation, manifest: dict[str, Any], models: dict[str, dict[str, Any]]
) -> None:
    keys = {
        "activity_date": "dim_date",
        "session_type": "dim_session_type",
        "user_key": "dim_user",
    }
    declared = relationships(manifest)
    assert {(join.mart, join.column, join.dimension, join.field) for join in declared} == {
        (name, column, dimension, column)
        for column, dimension in keys.items()
        for name, model in models.items()
        if column in model["columns"] and name not in keys.values()
    }
    with installation.connected(Purpose.BI) as bi:
        for join in declared:
            mart, dimension, column, field = map(
                sql.Identifier, (join.mart, join.dimension, join.column, join.field)
            )
            lost = bi.execute(
                sql.SQL(
                    "select count(*) from marts.{} as facts where not exists "
                    "(select from marts.{} as dimension where dimension.{} = facts.{})"
                ).format(mart, dimension, field, column)
            ).fetchone()
            assert lost == (0,), join


DAYS = ("1999-12-31", "2000-01-01", "294276-12-31")


def test_a_total_does_not_depend_on_a_join_whatever_day_a_clock_said(settings: Settings) -> None:
    # The first day that PostgreSQL has and its last one; Python has neither.
    moments = ("4714-11-24 12:00+00 BC", *(f"{day} 12:00+00" for day in DAYS))
    with psycopg.connect(settings.conninfo, autocommit=True) as database:
        for number, moment in enumerate(moments):
            record_metrics(database, 1 + number)
            database.execute(
                "update session_metrics set created_at = %s "
                "where created_at > now() - interval '9 days' and created_at < now()",
                [moment],
            )
        fold(database, load_marts(settings), "run")
        beyond = database.execute(
            """
            select
                dim_date.activity_date::text, month_label, week_start_date::text,
                month_start_date::text, sum(sessions)
            from marts.dim_date
            inner join marts.daily_session_stats using (activity_date)
            where calendar_year not between 2000 and 2100
            group by dim_date.activity_date, 2, 3, 4
            order by dim_date.activity_date
            """
        ).fetchall()
        assert beyond == [
            ("4714-11-24 BC", "-4714-11", "4714-11-24 BC", "4714-11-24 BC", 1),
            ("1999-12-31", "1999-12", "1999-12-27", "1999-12-01", 2),
            ("294276-12-31", "294276-12", "294276-12-25", "294276-12-01", 4),
        ]
        joined = "select sum(sessions) from marts.daily_session_stats inner join marts.dim_date"
        assert one(database, f"{joined} using (activity_date)") == sum(range(1, 5))
        days_of_it = "select count(*) from marts.dim_date where calendar_year between 2000 and %s"
        this_year = one(database, "select extract(year from now() at time zone 'UTC')::integer")
        whole = (date(this_year, 12, 31) - date(2000, 1, 1)).days + 1
        assert one(database, days_of_it, this_year) == whole


def test_a_database_without_a_session_has_a_calendar_of_this_year(settings: Settings) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as database:
        year = one(database, "select extract(year from now() at time zone 'UTC')::integer")
        found = database.execute(
            "select min(activity_date), max(activity_date), count(*)::integer from marts.dim_date"
        ).fetchone()
        assert found == (
            date(year, 1, 1),
            date(year, 12, 31),
            (date(year + 1, 1, 1) - date(year, 1, 1)).days,
        )
        assert one(database, "select count(*) from marts.dim_session_type") == len(SessionType)
        assert one(database, "select array_agg(is_anonymous) from marts.dim_user") == [True]


BREAKS = {
    "a day": "insert into marts.daily_asset_counts values ('1998-01-01', 'equity', 'A', 1)",
    "a type": "insert into marts.daily_tag_counts select activity_date, 'odd', 'a', 1 "
    "from marts.daily_session_stats limit 1",
    "a user": "update marts.daily_user_stats set user_key = gen_random_uuid() "
    "where ctid = (select min(ctid) from marts.daily_user_stats)",
    # What a writer leaves while triggers are off.
    "a live row": "set session_replication_role = replica; insert into session_metrics "
    "(session_id, session_type, created_at, duration_seconds) "
    "values (gen_random_uuid(), 'odd', now(), 1); reset session_replication_role",
}


def failed_relationships(settings: Settings, tmp_path: Path) -> set[str]:
    found = dbt(
        settings,
        ["test", "--select", "test_name:relationships", "test_name:known_user_key"],
        tmp_path,
    )
    return {
        word
        for line in found.stdout.splitlines()
        if " FAIL " in line
        for word in line.split()
        if "_is_in_dim_" in word
    }


@every(2)
def test_a_row_that_no_dimension_has_fails_the_build_that_finds_it(
    settings: Settings, tmp_path: Path
) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as database:
        record_metrics(database, 30)
        fold(database, load_marts(settings), "first")
        # Of what is only not folded yet, nobody can tell.
        database.execute(
            "insert into session_metrics (session_id, session_type, created_at, duration_seconds) "
            "values (gen_random_uuid(), 'new', '2001-01-01', 1)"
        )
        assert failed_relationships(settings, tmp_path) == set()
        fold(database, load_marts(settings), "second")
        for statement in BREAKS.values():
            database.execute(statement.encode())
        assert failed_relationships(settings, tmp_path) == {
            "daily_asset_counts_activity_date_is_in_dim_date",
            "daily_tag_counts_session_type_is_in_dim_session_type",
            "daily_user_stats_user_key_is_in_dim_user",
            "fct_sessions_session_type_is_in_dim_session_type",
        }


def test_exposures_name_what_their_role_reads(
    installation: Installation, manifest: dict[str, Any]
) -> None:
    exposed = {
        exposure["name"]: {
            f"{node['schema']}.{node['name']}"
            for name in exposure["depends_on"]["nodes"]
            if (node := manifest["nodes"].get(name)) is not None
        }
        for exposure in manifest["exposures"].values()
    }
    with installation.connected() as database:
        readable = {
            purpose: {
                name
                for (name,) in database.execute(
                    """
                    select pg_class.oid::regclass::text
                    from pg_class
                    where
                        relnamespace in ('marts'::regnamespace, 'serving'::regnamespace)
                        and relkind in ('r', 'v')
                        and has_table_privilege(%s, oid, 'select')
                    """,
                    [installation.login(purpose)],
                ).fetchall()
            }
            for purpose in (Purpose.READER, Purpose.BI)
        }
    layout = {"serving.layout", "serving.scopes", "serving.keys"}
    assert exposed.pop("business_intelligence") == readable[Purpose.BI]
    assert {f"marts.{name}" for name in VIEWS} <= readable[Purpose.BI]
    for name, marts in exposed.items():
        assert marts == readable[Purpose.READER] - layout, name
