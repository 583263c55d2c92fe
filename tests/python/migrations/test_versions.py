"""From every earlier version, and against another one than is there."""

from itertools import product

import psycopg
import pytest
from migrations.ground import (
    DOCUMENTED_DDL,
    EVERY_VERSION,
    LAST,
    build,
    check_figures,
    connected,
    stats,
    value,
    write,
)
from spreading import spread

from fiml.errors import SchemaVersionError
from fiml.sessions.migrations import migrate
from fiml.warehouse.fold import fold_statements, open_window
from fiml.warehouse.project import Mart


def fold_as_it_was(conninfo: str, marts: tuple[Mart, ...]) -> None:
    """Fold what there is to fold at an earlier version, which knew of no ranges."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        open_window(connection, "before")
        known = {row[0] for row in connection.execute("select mart from analytics.watermarks")}
        for mart in marts:
            if mart.name in known:
                with connection.transaction():
                    connection.execute("select analytics.begin_fold(%s, 'before')", [mart.name])
                    for statement in fold_statements(mart):
                        connection.execute(statement.encode())
                    connection.execute("select analytics.end_fold(%s)", [mart.name])


@pytest.mark.parametrize(
    ("version", "is_documented_ddl"),
    spread(product(EVERY_VERSION[:-1], (False, True)), 3),
)
def test_rows_of_every_earlier_version_count_and_fold_after_the_last(
    empty_database: str, marts: tuple[Mart, ...], version: int, is_documented_ddl: bool
) -> None:
    with connected(empty_database) as connection:
        if is_documented_ddl:
            connection.execute(DOCUMENTED_DDL.encode())
            write(connection, "ann")
        applied = migrate(empty_database, up_to=version)
        assert [step.version for step in applied] == EVERY_VERSION[:version]
        kept = write(connection, "ann")
        gone = write(connection, "bob", "macro")
        if version >= 3:
            fold_as_it_was(empty_database, marts)
        connection.execute("delete from session_metrics where session_id = %s", [gone])
        connection.execute(
            "update session_metrics set total_queries = 8, session_type = 'macro' "
            "where session_id = %s",
            [kept],
        )
        applied = migrate(empty_database)
        assert [step.version for step in applied] == EVERY_VERSION[version:]
        write(connection, None)
    before = check_figures(empty_database)
    assert before["total_sessions"] == 2 + is_documented_ddl
    build(empty_database, marts, "after")
    assert check_figures(empty_database) == before
    with connected(empty_database) as connection:
        counted = connection.execute(
            "select sum(sessions), sum(queries), sum(archived_sessions) "
            "from marts.daily_session_stats"
        ).fetchone()
        assert counted == (
            value(connection, "select count(*) from session_metrics"),
            value(connection, "select sum(total_queries) from session_metrics"),
            value(connection, "select count(*) from sessions where is_archived"),
        )


def test_an_applied_migration_that_reads_differently_is_an_error(migrated_database: str) -> None:
    with connected(migrated_database) as connection:
        connection.execute("update analytics.migrations set checksum = 'other' where version = 2")
    with pytest.raises(SchemaVersionError, match=r"migration 2 \(change_feed\) was applied"):
        migrate(migrated_database)


def test_a_database_of_a_newer_package_is_an_error(migrated_database: str) -> None:
    with connected(migrated_database) as connection:
        connection.execute(
            "insert into analytics.migrations (version, name, checksum) values (%s, 'new', 'x')",
            [LAST + 1],
        )
    with pytest.raises(SchemaVersionError, match=f"at version {LAST + 1}, .* install the newer"):
        migrate(migrated_database)
    with pytest.raises(SchemaVersionError, match=f"at version {LAST + 1}, .* install the newer"):
        stats(migrated_database)


def test_another_source_schema_than_the_installed_one_is_an_error_and_makes_nothing(
    migrated_database: str,
) -> None:
    with pytest.raises(SchemaVersionError, match="for source schema 'public', not 'typo'; set SES"):
        migrate(migrated_database, "typo")
    with pytest.raises(SchemaVersionError, match="for source schema 'public', not 'typo'; set SES"):
        stats(migrated_database, "typo")
    with connected(migrated_database) as connection:
        assert value(connection, "select to_regnamespace('typo')") is None


@pytest.mark.parametrize("version", [None, *EVERY_VERSION[:-1]])
def test_a_start_against_an_older_database_says_what_to_do(
    empty_database: str, version: int | None
) -> None:
    if version is not None:
        migrate(empty_database, up_to=version)
    with pytest.raises(SchemaVersionError, match="run `session-analytics migrate`"):
        stats(empty_database)
