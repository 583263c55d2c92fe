"""Out again, and back."""

import re

import pytest
from migrations.ground import (
    EVERY_VERSION,
    Connection,
    build,
    check_figures,
    connected,
    own_objects,
    stats,
    value,
    write,
)

from fiml.errors import SchemaVersionError
from fiml.sessions.migrations import migrate, uninstall
from fiml.warehouse.project import Mart


def test_uninstalling_leaves_the_tables_writable_and_nothing_of_ours(
    documented: Connection, empty_database: str, marts: tuple[Mart, ...]
) -> None:
    migrate(empty_database)
    write(documented)
    build(empty_database, marts)
    assert uninstall(empty_database)
    rest = {name for name in own_objects(documented) if re.search(r"\b(analytics|marts)\b", name)}
    assert rest == set()
    assert value(documented, "select count(*) from pg_trigger where not tgisinternal") == 0
    write(documented)
    documented.execute("truncate session_metrics")
    assert not uninstall(empty_database)
    with pytest.raises(SchemaVersionError):
        stats(empty_database)


def test_uninstalling_what_was_never_installed_is_harmless(empty_database: str) -> None:
    with connected(empty_database) as connection:
        connection.execute("create schema marts create table daily_session_stats (theirs text)")
        objects = own_objects(connection)
        assert not uninstall(empty_database)
        assert own_objects(connection) == objects


def test_uninstalling_leaves_what_others_made_in_schemas_of_our_names(
    empty_database: str,
) -> None:
    with connected(empty_database) as connection:
        connection.execute("create schema marts create table revenue (amount integer)")
        connection.execute("insert into marts.revenue values (1)")
        connection.execute("create schema analytics create view experiments as select 2 as id")
        migrate(empty_database)
        connection.execute("create view marts.built_on_ours as table marts.daily_session_stats")
        assert uninstall(empty_database)
        found = {
            row[0]
            for row in connection.execute(
                "select oid::regclass::text from pg_class where relnamespace in "
                "('analytics'::regnamespace, 'marts'::regnamespace)"
            )
        }
        assert found == {"marts.revenue", "analytics.experiments"}
        assert value(connection, "select amount from marts.revenue") == 1


def test_installing_again_after_uninstalling_counts_everything(
    empty_database: str, marts: tuple[Mart, ...]
) -> None:
    migrate(empty_database)
    with connected(empty_database) as connection:
        write(connection)
        build(empty_database, marts)
        uninstall(empty_database)
        write(connection, "bob", "macro")
        connection.execute("update session_metrics set total_queries = 20 where user_id = 'ann'")
        assert [step.version for step in migrate(empty_database)] == EVERY_VERSION
        write(connection, None)
    before = check_figures(empty_database)
    assert (before["total_sessions"], before["total_queries"]) == (3, 26)
    build(empty_database, marts)
    assert check_figures(empty_database) == before
