"""Who migrates, with what rights, on each PostgreSQL that is here; and out again."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import psycopg
import pytest
from exactness.restoring import dump_and_restore
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from roles.installation import (
    Connection,
    drop_roles,
    findings_on_roles,
    one,
    own_names,
    privileges,
)
from spreading import every, spread
from warehouse.application import record_metrics

from fiml.database import Database
from fiml.errors import RoleError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.health import Severity
from fiml.sessions.migrations import migrate, uninstall
from fiml.sessions.roles import Purpose, default_prefix, role_names, roles_in_use
from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts
from fiml.warehouse.reconcile import reconcile

PASSWORD = "of the tests"


class World:
    """Databases and roles of a test on one cluster."""

    def __init__(self, superuser: str, stack: ExitStack) -> None:
        self.superuser = superuser
        self._stack = stack
        # Of everything that the test makes, so that it is found again.
        self.prefix = f"t{uuid4().hex[:10]}"
        stack.callback(self._drop_roles)

    def admin(self) -> Connection:
        return self._stack.enter_context(psycopg.connect(self.superuser, autocommit=True))

    def database(self, owner: str | None = None) -> str:
        """The superuser's conninfo of a new database."""
        name = f"{self.prefix}_{uuid4().hex[:6]}"
        admin = self.admin()
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
        self._stack.callback(admin.execute, drop)
        if owner is not None:
            admin.execute(
                sql.SQL("alter database {} owner to {}").format(
                    sql.Identifier(name), sql.Identifier(owner)
                )
            )
        return make_conninfo(self.superuser, dbname=name)

    def login(self, attributes: str = "") -> str:
        name = f"{self.prefix}_{uuid4().hex[:6]}_login"
        self.admin().execute(
            f"create role {name} login password '{PASSWORD}' {attributes}".encode()
        )
        return name

    def connected(self, conninfo: str) -> Connection:
        return self._stack.enter_context(psycopg.connect(conninfo, autocommit=True))

    def _drop_roles(self) -> None:
        with psycopg.connect(self.superuser, autocommit=True) as admin:
            drop_roles(admin, self.prefix)


@pytest.fixture
def world(cluster: str) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(cluster, stack)


def as_login(conninfo: str, login: str) -> str:
    return make_conninfo(conninfo, user=login, password=PASSWORD)


def everything_works(conninfo: str) -> None:
    """Writing, archiving, folding, comparing and reading, with one login."""
    settings = Settings(conninfo=conninfo, timeout_seconds=30)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        record_metrics(connection, 30)
        connection.execute(
            "insert into sessions (id, user_id, type, expires_at) "
            "values (gen_random_uuid(), 'ann', 'equity', now() - interval '1 hour')"
        )

    async def use() -> dict[str, object]:
        async with Database(settings) as database:
            assert (await archive_expired(database)).archived == 1
            with psycopg.connect(conninfo, autocommit=True) as connection:
                fold(connection, load_marts(settings), f"run {uuid4()}")
            return await SessionAnalytics(database).get_session_stats(include_meta=True)

    answer = asyncio.run(use())
    assert answer["total_sessions"] == 31
    assert reconcile(settings, all_days=True) == []


def dependent_on_login(connection: Connection, login: str) -> int:
    return int(
        one(
            connection,
            "select count(*) from pg_proc where proowner = %s::regrole and prosecdef",
            login,
        )
    )


@pytest.mark.parametrize("self_grant", spread(["", "set", "set, inherit"], 3))
def test_createrole_alone_is_enough(world: World, self_grant: str) -> None:
    login = world.login("createrole")
    database = world.database(login)
    own = as_login(database, login)
    if self_grant:
        if world.admin().info.server_version < 160_000:
            pytest.skip("before 16, who makes a role may do everything with it")
        own = make_conninfo(own, options=f"-c createrole_self_grant={self_grant.replace(' ', '')}")
    notes: list[str] = []
    migrate(own, on_note=notes.append)
    assert notes == []
    by_superuser = world.database()
    migrate(by_superuser)
    mine, theirs = world.connected(database), world.connected(by_superuser)
    assert roles_in_use(mine).keys() == set(Purpose)
    assert privileges(mine) == privileges(theirs)
    assert dependent_on_login(mine, login) == 0
    everything_works(own)
    # And a build makes the view as the builders' role.
    assert build(Settings(conninfo=own)).succeeded
    builder = roles_in_use(mine)[Purpose.BUILDER]
    assert one(
        mine,
        "select relowner::regrole::text from pg_class where oid = 'marts.fct_sessions'::regclass",
    ) in {builder, f'"{builder}"'}
    assert migrate(own, on_note=notes.append) == []
    assert notes == []
    assert uninstall(own, on_note=notes.append)
    assert notes == []
    assert not roles_there(mine, database)
    record_metrics(world.connected(own), 1)


def roles_there(connection: Connection, database: str) -> list[str]:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    return [
        role
        for (role,) in connection.execute(
            "select rolname from pg_roles where rolname = any(%s)", [own_names(str(name))]
        ).fetchall()
    ]


# No multiple of two, over which the clusters are spread.
@every(3)
def test_one_ordinary_role_does_everything_and_is_told_what_is_lost(world: World) -> None:
    login = world.login()
    database = world.database(login)
    own = as_login(database, login)
    notes: list[str] = []
    migrate(own, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith(f"No roles: {login} may not make any")
    findings = findings_on_roles(own)
    assert list(findings) == ["roles.none"]
    assert (findings["roles.none"].severity, findings["roles.none"].remedy) == (Severity.OK, None)
    assert "whoever has it can do everything" in findings["roles.none"].detail
    everything_works(own)
    assert build(Settings(conninfo=own)).succeeded
    # A superuser can make them later; what the login made stays its own, and goes on working.
    assert migrate(database, on_note=notes.append) == []
    assert len(notes) == 1
    connection = world.connected(database)
    assert roles_in_use(connection).keys() == set(Purpose)
    with psycopg.connect(own, autocommit=True) as again:
        record_metrics(again, 5)
        fold(again, load_marts(Settings(conninfo=own)), f"run {uuid4()}")
    reader = make_conninfo(database, options=f"-c role={roles_in_use(connection)[Purpose.READER]}")
    assert one(world.connected(reader), "select count(*) from analytics.session_facts") > 0
    assert uninstall(database)
    assert not roles_there(connection, database)


def test_a_new_member_gets_settings_and_is_named(world: World) -> None:
    login = world.login()
    database = world.database()
    migrate(database)
    connection = world.connected(database)
    connection.execute(
        sql.SQL("grant {} to {}").format(
            sql.Identifier(roles_in_use(connection)[Purpose.BI]), sql.Identifier(login)
        )
    )
    notes: list[str] = []
    migrate(database, on_note=notes.append)
    assert notes == [f"Settings of their role were given to: {login}."]
    migrate(database, on_note=notes.append)
    assert len(notes) == 1


def test_roles_that_an_operator_made_are_taken_and_left(world: World) -> None:
    login = world.login()
    database = world.database(login)
    names = role_names(str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]))
    admin = world.admin()
    for name in names.values():
        admin.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    admin.execute(
        sql.SQL("grant {} to {}").format(
            sql.Identifier(names[Purpose.OWNER]), sql.Identifier(login)
        )
    )
    own = as_login(database, login)
    notes: list[str] = []
    migrate(own, on_note=notes.append)
    # Whoever made them may set what is theirs.
    assert len(notes) == 1
    assert "may not change the settings" in notes[0]
    connection = world.connected(database)
    assert roles_in_use(connection) == names
    assert dependent_on_login(connection, login) == 0
    everything_works(own)
    assert uninstall(own)
    assert len(roles_there(connection, database)) == len(names)
    for name in names.values():
        assert one(
            connection,
            "select count(*) from pg_shdepend where refobjid = %s::regrole and deptype <> 'o' "
            "and dbid = (select oid from pg_database where datname = current_database())",
            f'"{name}"',
        ) == (0)


def test_two_databases_share_no_role_unless_that_is_asked_for(world: World) -> None:
    first, second = world.database(), world.database()
    migrate(first)
    migrate(second)
    mine, theirs = world.connected(first), world.connected(second)
    assert not set(roles_in_use(mine).values()) & set(roles_in_use(theirs).values())
    third, fourth = world.database(), world.database()
    prefix = f"{world.prefix}_shared_"
    migrate(third, role_prefix=prefix)
    with pytest.raises(RoleError, match="SESSION_ANALYTICS_ROLE_PREFIX"):
        migrate(fourth, role_prefix=prefix)
    with pytest.raises(RoleError, match="has its roles already"):
        migrate(first, role_prefix=prefix)


@pytest.mark.parametrize("attribute", ["superuser", "bypassrls"])
def test_a_role_that_may_too_much_is_refused(world: World, attribute: str) -> None:
    database = world.database()
    name = str(psycopg.conninfo.conninfo_to_dict(database)["dbname"])
    reader = role_names(name)[Purpose.READER]
    world.admin().execute(f"create role {reader} {attribute}".encode())
    with pytest.raises(RoleError, match=reader):
        migrate(database)


def test_a_role_that_is_used_elsewhere_stays_and_is_named(world: World) -> None:
    database, other = world.database(), world.database()
    migrate(database)
    reader = roles_in_use(world.connected(database))[Purpose.READER]
    elsewhere = world.connected(other)
    elsewhere.execute("create table theirs ()")
    elsewhere.execute(sql.SQL("grant select on theirs to {}").format(sql.Identifier(reader)))
    notes: list[str] = []
    assert uninstall(database, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith(f"Role {reader} stays")
    assert roles_there(elsewhere, database) == [reader]
    # A database that is made again finds it.
    migrate(database)
    elsewhere.execute(sql.SQL("revoke select on theirs from {}").format(sql.Identifier(reader)))
    assert uninstall(database, on_note=notes.append)
    assert len(notes) == 1


def test_a_restore_without_privileges_is_mended_by_migrating_again(world: World) -> None:
    database, restored = world.database(), world.database()
    migrate(database)
    dump_and_restore(database, restored)
    connection = world.connected(restored)
    assert "PUBLIC execute" in privileges(connection)
    assert migrate(restored) == []
    # But for the application's tables, which belong to who restored them.
    assert ours(privileges(connection)) == ours(privileges(world.connected(database)))


def ours(matrix: str) -> list[str]:
    return [
        line for line in matrix.splitlines() if not re.match(r"(table|sequence|schema) p", line)
    ]


def test_what_others_made_in_schemas_of_our_names_stays_as_open_as_it_is(world: World) -> None:
    stranger, login = world.login(), world.login("createrole")
    database = world.database(login)
    connection = world.connected(database)
    connection.execute(
        sql.SQL("create schema analytics authorization {}").format(sql.Identifier(login))
    )
    connection.execute(
        sql.SQL("grant usage, create on schema analytics to {}").format(sql.Identifier(stranger))
    )
    with psycopg.connect(as_login(database, stranger), autocommit=True) as theirs:
        theirs.execute("create function analytics.theirs() returns integer return 1")
    migrate(as_login(database, login))
    assert one(
        connection, "select has_function_privilege('public', 'analytics.theirs()', 'execute')"
    )
    assert uninstall(as_login(database, login))
    assert one(connection, "select analytics.theirs()") == 1


def test_an_operator_s_own_settings_and_grants_stay(world: World) -> None:
    database = world.database()
    migrate(database)
    connection = world.connected(database)
    reader = sql.Identifier(roles_in_use(connection)[Purpose.READER])
    name = sql.Identifier(str(connection.info.dbname))
    connection.execute(
        sql.SQL("alter role {} in database {} set statement_timeout = '7min'").format(reader, name)
    )
    connection.execute(sql.SQL("grant select on analytics.quarantine to {}").format(reader))
    migrate(database)
    settings = one(
        connection,
        "select setconfig from pg_db_role_setting where setrole = "
        "(select oid from pg_roles where rolname = %s)",
        roles_in_use(connection)[Purpose.READER],
    )
    assert "statement_timeout=7min" in settings
    assert "analytics.quarantine, of owner: reader select" in privileges(connection)


@every(3)
def test_hardened_databases_open_to_the_roles_alone(world: World) -> None:
    database = world.database()
    connection = world.connected(database)
    name = sql.Identifier(str(connection.info.dbname))
    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
    connection.execute("revoke all on schema public from public")
    migrate(database)
    admin = world.admin()
    logins = {}
    for purpose, role in roles_in_use(connection).items():
        logins[purpose] = world.login()
        admin.execute(
            sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(logins[purpose]))
        )
    record_metrics(connection, 10)
    assert build(Settings(conninfo=as_login(database, logins[Purpose.BUILDER]))).succeeded
    for purpose, question in {
        Purpose.APP: "select count(*) from sessions",
        Purpose.READER: "select count(*) from analytics.session_facts",
        Purpose.BI: "select count(*) from marts.fct_sessions",
    }.items():
        one(world.connected(as_login(database, logins[purpose])), question)
    stranger = world.login()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(as_login(database, stranger))


def test_tables_that_were_there_stay_whose_they_are(world: World) -> None:
    application = world.login()
    database = world.database(application)
    with psycopg.connect(as_login(database, application), autocommit=True) as theirs:
        theirs.execute(
            """
            create table sessions (
                id uuid primary key,
                user_id varchar(255),
                type varchar(50) not null,
                tags jsonb not null default '[]',
                is_archived boolean not null default false,
                archived_at timestamptz
            )
            """
        )
    migrate(database)
    with psycopg.connect(as_login(database, application), autocommit=True) as theirs:
        theirs.execute("alter table sessions add column theirs text")
        theirs.execute("insert into sessions (id, type) values (gen_random_uuid(), 'equity')")
        with pytest.raises(errors.InsufficientPrivilege):
            theirs.execute("select from analytics.session_changes")


@pytest.mark.parametrize(
    ("database", "prefix"),
    [
        ("shop", "shop_analytics_"),
        ("My Shop", "My Shop_analytics_"),
        ("pg_shop", None),
        ("s" * 63, None),
        ("é" * 30, None),
    ],
)
def test_names_begin_with_the_database_s_or_its_digest(database: str, prefix: str | None) -> None:
    found = default_prefix(database)
    assert found == prefix if prefix else found.startswith("session_analytics_")
    assert default_prefix(f"{database}x"[-63:]) != found
    assert all(len(name.encode()) <= 63 for name in role_names(database).values())


@pytest.mark.parametrize("prefix", ["pg_mine_", "x" * 57])
def test_a_prefix_that_no_role_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(RoleError, match="SESSION_ANALYTICS_ROLE_PREFIX"):
        role_names("shop", prefix)


def test_a_database_with_an_odd_name_gets_its_roles(
    world: World, make_database: Callable[..., str]
) -> None:
    admin = world.admin()
    name = f'{world.prefix} "Shop"'
    admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        conninfo = make_conninfo(world.superuser, dbname=name)
        migrate(conninfo, "App Data")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            roles = roles_in_use(connection)
            assert roles[Purpose.READER] == f"{name}_analytics_reader"
        assert uninstall(conninfo)
    finally:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
