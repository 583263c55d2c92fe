"""What each role can do, because it must, and what it cannot: the second from the catalogue."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql
from roles.installation import Installation, one, relations
from warehouse.application import VIEWS, leave_expired_sessions, record_metrics

from fiml.database import Database
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.health import Severity, examine
from fiml.sessions.maintenance import release_quarantined_sessions
from fiml.sessions.models import QueryRecord, SessionType
from fiml.sessions.reading import read_stats
from fiml.sessions.roles import SETTINGS_OF_LOGINS, Purpose
from fiml.sessions.store import SessionStore
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold
from fiml.warehouse.folder import Folder
from fiml.warehouse.freshness import source_freshness
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import reconcile

pytestmark = pytest.mark.anyio

APP, BUILDER, READER, BI = Purpose.APP, Purpose.BUILDER, Purpose.READER, Purpose.BI
# Nothing of what stands in the database reads like it.
SECRET = "zz-user-of-the-tests"


@pytest.fixture(scope="module", autouse=True)
def _history(installation: Installation) -> None:
    with installation.connected() as connection:
        record_metrics(connection, 200)
        # Odd values, one user who is heavy, and one whom no column but the right ones may show.
        connection.execute(
            """
            insert into session_metrics (
                session_id, user_id, session_type, created_at, duration_seconds, total_queries,
                assets_analyzed, query_type_summary, tags
            )
            select
                gen_random_uuid(), %s, 'equity', now() - make_interval(secs => 60 * number), 1, 1,
                jsonb_build_array(repeat('long', 100), 'A' || number), '{"price": 1.5, "news": 2}',
                '["a", 7]'
            from generate_series(1, 30) as number
            """,
            [SECRET],
        )
        connection.execute(
            "insert into sessions (id, user_id, type, expires_at, tags, state) values "
            "(gen_random_uuid(), %s, 'macro', now() + interval '1 hour', '[\"secret\"]', '{}')",
            [SECRET],
        )
        leave_expired_sessions(connection, 5)
        connection.execute("select analytics.set_serving_layout(heavy_user_sessions => 20)")


# What each must be able to do ---------------------------------------------------------------------


async def test_an_application_does_all_that_the_store_offers(installation: Installation) -> None:
    async with SessionStore(installation.settings(APP)) as store:
        session = await store.create_session(
            assets=["AAPL"], session_type=SessionType.EQUITY, user_id="app user", tags=["tech"]
        )
        await store.add_query(session.id, QueryRecord(query_type="price"))
        stored = await store.get_session(session.id)
        assert stored is not None
        stored.tags = ["tech", "growth"]
        assert (await store.update_session(session.id, stored)).tags == ["tech", "growth"]
        await store.extend_session(session.id, hours=1)
        assert len(await store.list_user_sessions("app user")) == 1
        assert await SessionAnalytics(store).record_session_metrics(stored)
        assert await store.archive_session(session.id)
        assert await store.delete_session(session.id)


async def test_an_application_archives(installation: Installation) -> None:
    with installation.connected() as connection:
        leave_expired_sessions(connection, 3)
    async with Database(installation.settings(APP)) as database:
        assert (await archive_expired(database)).archived >= 3
        await release_quarantined_sessions(database)


async def test_an_application_that_reads_too_is_a_member_of_both(
    installation: Installation,
) -> None:
    async with SessionStore(installation.settings(APP, READER)) as store:
        session = await store.create_session(assets=["X"], session_type=SessionType.MACRO)
        assert await store.archive_session(session.id)
        assert (await SessionAnalytics(store).get_session_stats())["archived_sessions"] > 0


async def test_a_builder_builds_folds_prunes_and_compares(installation: Installation) -> None:
    settings = installation.settings(BUILDER)
    with installation.connected() as connection:
        record_metrics(connection, 10)
    # dbt's own tests compare, and so do these; from scratch, and then what came.
    assert build(settings, from_scratch=True).succeeded
    with installation.connected() as connection:
        record_metrics(connection, 10)
    with installation.connected(BUILDER) as builder:
        fold(builder, load_marts(settings), f"run {uuid4()}")
        assert one(builder, "select analytics.prune_changes('0')") > 0
        with installation.connected() as connection:
            record_metrics(connection, 10)
        assert Folder(settings).fold(builder)
        assert not Folder(settings).fold(builder)
    assert reconcile(settings, all_days=True) == []
    assert {found.status for found in source_freshness(settings)} == {"pass"}
    findings = await examine(settings)
    assert [found for found in findings if found.severity is Severity.ERROR] == []
    assert [found for found in findings if found.code.endswith((".unknown", ".missing"))] == []


@pytest.mark.parametrize("path", [None, "serving", "marts", "source"])
@pytest.mark.parametrize("user_id", [None, "user 1", SECRET], ids=["all", "one", "a heavy one"])
@pytest.mark.parametrize("session_type", [None, "equity"])
async def test_a_reader_reads_on_every_path_what_a_superuser_reads(
    installation: Installation, path: str | None, user_id: str | None, session_type: str | None
) -> None:
    with installation.connected(BUILDER) as builder:
        fold(builder, load_marts(installation.settings(BUILDER)), f"run {uuid4()}")
    answers = []
    as_of = None
    for conninfo in (installation.conninfo(READER), installation.superuser):
        connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        async with connection:
            answer = await read_stats(
                connection,
                user_id=user_id,
                session_type=session_type,
                days=30,
                include_meta=True,
                as_of=as_of,
                path=path,
            )
            as_of = answer["meta"]["as_of"]
            answers.append(answer)
    assert answers[0] == answers[1]
    # Of a heavy user's, the layer has no session types.
    if path == "serving" and user_id != "user 1" and not (user_id and session_type):
        assert answers[0]["meta"]["path"] == "serving"


async def test_a_reader_exports(installation: Installation) -> None:
    async with Database(installation.settings(READER)) as database:
        analytics = SessionAnalytics(database)
        exported = await analytics.export_session_metrics("csv", SECRET, None, 30)
        assert str(exported).count(SECRET) == 30


def test_bi_reads_the_marts_and_the_settings_of_logins_are_in_force(
    installation: Installation,
) -> None:
    assert build(installation.settings(BUILDER)).succeeded
    with installation.connected(BI) as bi:
        assert one(bi, "select count(*) from marts.fct_sessions where set_aside_values > 0") > 0
        assert one(bi, "select sum(sessions) from marts.daily_user_stats") > 0
    for purpose, settings in SETTINGS_OF_LOGINS.items():
        with installation.connected(purpose) as connection:
            found = {name: one(connection, "select current_setting(%s)", name) for name in settings}
        assert found == settings


# What none may ------------------------------------------------------------------------------------


@pytest.fixture(params=[APP, BUILDER, READER, BI])
def role(
    request: pytest.FixtureRequest, installation: Installation
) -> Iterator[tuple[Purpose, psycopg.Connection[tuple[Any, ...]]]]:
    """A login of each role, that may write as far as its settings are concerned."""
    with installation.connected(request.param) as connection:
        connection.execute("set default_transaction_read_only = off")
        yield request.param, connection


# Beside selecting: what is written, by the lists in 0007_roles.sql, 0010_alerts.sql and
# 0011_monitoring.sql.
WRITES = {
    APP: {("insert", "sessions"), ("update", "sessions")},
    BUILDER: {
        *(("delete", f"analytics.{name}") for name in ("session_changes", "build_windows")),
        *(("insert", f"analytics.{name}") for name in ("build_windows", "user_keys")),
        *(("update", f"analytics.{name}") for name in ("watermarks", "mart_states")),
        ("insert", "serving.keys"),
        ("delete", "analytics.alert_rules"),
        *(
            (verb, f"analytics.{name}")
            for verb in ("insert", "update")
            for name in ("alert_rules", "alert_episodes", "notices", "last_build")
        ),
        *(
            (verb, name)
            for verb in ("insert", "update", "delete")
            for name in (
                "serving.scopes",
                "serving.session_totals",
                "marts.daily_asset_counts",
                "marts.daily_query_type_counts",
                "marts.daily_session_stats",
                "marts.daily_tag_counts",
                "marts.daily_user_stats",
            )
        ),
    },
    READER: set(),
    BI: set(),
}


# By dbt, and so the builders' own.
BUILT = {f"marts.{name}" for name in VIEWS}


def test_nothing_else_is_written(installation: Installation, role: Any) -> None:
    purpose, connection = role
    with installation.connected() as superuser:
        names = relations(superuser)
        columns = {
            name: one(
                superuser,
                "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1",
                name,
            )
            for name in names
        }
    statements = {
        "insert": "insert into {relation} default values",
        "update": "update {relation} set {column} = {column}",
        "delete": "delete from {relation}",
        "truncate": "truncate {relation}",
        "alter": "alter table {relation} add column theirs integer",
        "drop": "drop table {relation}",
        "trigger": (
            "create trigger theirs before update on {relation} "
            "execute function suppress_redundant_updates_trigger()"
        ),
    }
    done = set()
    for name in names:
        if purpose is BUILDER and name in BUILT:
            continue
        for verb, statement in statements.items():
            if (verb, name) in WRITES[purpose]:
                done.add((verb, name))
                continue
            text = statement.format(relation=name, column=columns[name])
            with pytest.raises(psycopg.Error) as raised:
                connection.execute(text.encode())
            # A view that nobody can write says that before it looks who asks.
            assert isinstance(
                raised.value,
                errors.InsufficientPrivilege
                | errors.ObjectNotInPrerequisiteState
                | errors.FeatureNotSupported
                | errors.WrongObjectType
                | errors.GeneratedAlways,
            ), text
    assert done == WRITES[purpose]


def test_nothing_is_made_where_it_would_be_found(role: Any) -> None:
    purpose, connection = role
    for schema in ("analytics", "serving", "public", "marts"):
        statement = sql.SQL("create table {}.theirs ()").format(sql.Identifier(schema))
        if purpose is BUILDER and schema == "marts":
            continue
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


def test_nothing_runs_with_the_owner_s_rights_but_what_is_listed(role: Any) -> None:
    purpose, connection = role
    found = {
        name
        for (name,) in connection.execute(
            """
            select pg_proc.proname
            from pg_proc
            inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
            where
                nspname in ('analytics', 'serving')
                and prosecdef
                and has_function_privilege(pg_proc.oid, 'execute')
            """
        ).fetchall()
    }
    assert (
        found
        == {
            APP: {
                "archive_session",
                "archive_expired_sessions",
                "release_quarantined_sessions",
                "record_session_metrics",
                "delete_session",
            },
            BUILDER: {
                "open_marts",
                "describe",
                "finish_erasures",
                "alert_fingerprint",
                "monitored",
            },
            READER: {"monitored"},
            BI: set(),
        }[purpose]
    )


def test_a_reader_and_bi_call_nothing_that_writes(installation: Installation) -> None:
    for purpose in (READER, BI):
        with installation.connected(purpose) as connection:
            assert not connection.execute(
                """
                select pg_proc.oid::regprocedure
                from pg_proc
                inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
                where
                    nspname in ('analytics', 'serving')
                    and provolatile = 'v'
                    and has_function_privilege(pg_proc.oid, 'execute')
                """
            ).fetchall()


def readable_columns(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """The columns of every relation outside the system that the login may select."""
    rows = connection.execute(
        """
        select format('%I.%I', nspname, relname), array_agg(attname::text order by attnum)
        from pg_class
        inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
        inner join pg_attribute on pg_attribute.attrelid = pg_class.oid
        where
            relkind in ('r', 'p', 'v', 'm', 'f')
            and nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and attnum > 0
            and not attisdropped
            and has_schema_privilege(pg_namespace.oid, 'usage')
            and has_column_privilege(pg_class.oid, attnum, 'select')
        group by 1
        """
    ).fetchall()
    return dict(rows)


def test_bi_finds_no_user_in_anything_that_it_can_read(installation: Installation) -> None:
    assert build(installation.settings(BUILDER)).succeeded
    with installation.connected(BI) as bi:
        readable = readable_columns(bi)
        assert {name.partition(".")[0] for name in readable} == {"marts"}
        assert readable.keys() >= BUILT
        for name, columns in readable.items():
            rows = bi.execute(
                sql.SQL("select {} from {}").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.Identifier(*name.split(".")),
                )
            ).fetchall()
            assert rows, name
            assert SECRET not in str(rows), name
            assert "user 1" not in str(rows), name
        # Nor in what the planner knows of the columns.
        assert SECRET not in str(bi.execute("select * from pg_stats").fetchall())
    with installation.connected(BI) as bi, pytest.raises(errors.InsufficientPrivilege):
        bi.execute("select from analytics.user_keys")


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        (APP, {"analytics.migrations", "analytics.settings", "public.sessions"}),
        (
            READER,
            {
                "analytics.alert_episodes",
                "analytics.alert_rules",
                "analytics.mart_states",
                "analytics.migrations",
                "analytics.notices",
                "analytics.open_sessions",
                "analytics.session_changes",
                "analytics.session_facts",
                "analytics.session_metrics_rows",
                "analytics.settings",
                "analytics.user_keys",
                "marts.daily_asset_counts",
                "marts.daily_query_type_counts",
                "marts.daily_session_stats",
                "marts.daily_tag_counts",
                "serving.keys",
                "serving.layout",
                "serving.scopes",
                "serving.session_totals",
            },
        ),
    ],
)
def test_an_application_and_a_reader_read_what_they_ask_and_no_more(
    installation: Installation, purpose: Purpose, expected: set[str]
) -> None:
    with installation.connected(purpose) as connection:
        assert readable_columns(connection).keys() == expected


@pytest.mark.parametrize(
    "column",
    [
        "sessions.tags",
        "sessions.assets",
        "sessions.state",
        "sessions.query_history",
        "analytics.settings.erasure_salt",
        "analytics.quarantine.user_id",
        "analytics.quarantine.source_row",
        "analytics.erased_users.user_hash",
    ],
)
def test_a_builder_does_not_read_what_no_figure_is_made_of(
    installation: Installation, column: str
) -> None:
    relation, _, name = column.rpartition(".")
    with installation.connected(BUILDER) as builder, pytest.raises(errors.InsufficientPrivilege):
        builder.execute(
            sql.SQL("select {} from {}").format(
                sql.Identifier(name), sql.Identifier(*relation.split("."))
            )
        )


def test_no_role_becomes_another(installation: Installation, role: Any) -> None:
    purpose, connection = role
    for other in Purpose:
        if other is purpose:
            continue
        name = f"{installation.name}_analytics_{other}"
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(name)))


def test_a_builder_opens_the_marts_and_describes_tables_and_nothing_else(
    installation: Installation,
) -> None:
    with installation.connected(BUILDER) as builder:
        for relation in ("sessions", "analytics.settings", "analytics.session_facts"):
            with pytest.raises(errors.WrongObjectType):
                builder.execute("select analytics.describe(%s::regclass, 'x', '{}')", [relation])
        with pytest.raises(errors.UndefinedObject):
            builder.execute("select analytics.open_marts('public')")
        with pytest.raises(errors.InsufficientPrivilege):
            builder.execute("select analytics.grant_privileges('owner', current_user)")


def test_a_reader_without_a_pool_of_its_own_is_read_only(installation: Installation) -> None:
    async def write() -> None:
        async with Database(installation.settings(READER)) as database:
            await database.run(
                lambda connection: connection.execute("create temporary table theirs ()")
            )

    with pytest.raises(Exception, match="read-only"):
        asyncio.run(write())
