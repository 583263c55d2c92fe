"""What `doctor` says of roles: each thing that can be wrong with them, made wrong for real."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from roles.installation import Installation, findings_on_roles

from fiml.sessions.health import Finding, Severity, examine
from fiml.sessions.migrations import migrate
from fiml.sessions.roles import Purpose, roles_in_use
from fiml.settings import Settings
from fiml.warehouse.builds import build


@pytest.fixture(scope="module")
def database(server: Any) -> Iterator[str]:
    """The superuser's conninfo of an installation that each test leaves as it was."""
    name = server.create_database()
    try:
        migrate(server.conninfo(name))
        yield server.conninfo(name)
    finally:
        server.drop_database(name)


def run(conninfo: str, statement: str, *names: str) -> None:
    """Run a statement, with the names quoted."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            sql.SQL(statement).format(*map(sql.Identifier, names))  # type: ignore[arg-type]
        )


def role(conninfo: str, purpose: Purpose) -> str:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return roles_in_use(connection)[purpose]


def mended(conninfo: str) -> bool:
    migrate(conninfo)
    return list(findings_on_roles(conninfo)) == ["roles"]


def test_roles_as_they_were_made_are_well_for_each_who_may_look(
    installation: Installation,
) -> None:
    assert build(installation.settings(Purpose.BUILDER)).succeeded
    for conninfo in (installation.superuser, installation.conninfo(Purpose.BUILDER)):
        findings = findings_on_roles(conninfo)
        assert list(findings) == ["roles"]
        assert (findings["roles"].severity, findings["roles"].remedy) == (Severity.OK, None)


def test_a_login_that_may_everything_is_told_so(installation: Installation) -> None:
    def findings(conninfo: str) -> list[Finding]:
        found = asyncio.run(examine(Settings(conninfo=conninfo)))
        return [finding for finding in found if finding.code == "login"]

    (finding,) = findings(installation.superuser)
    assert finding.severity is Severity.WARNING
    with installation.connected() as connection:
        builder = roles_in_use(connection)[Purpose.BUILDER]
    assert builder in (finding.remedy or "")
    assert findings(installation.conninfo(Purpose.BUILDER)) == []


@pytest.mark.parametrize("purpose", Purpose)
def test_a_role_that_is_gone_is_told_and_made_again(database: str, purpose: Purpose) -> None:
    gone = role(database, purpose)
    with psycopg.connect(database, autocommit=True) as connection:
        statement = "reassign owned by {0} to current_user; drop owned by {0}; drop role {0}"
        connection.execute(sql.SQL(statement).format(sql.Identifier(gone)))
    finding = findings_on_roles(database)["roles.missing"]
    assert finding.severity is Severity.WARNING
    assert finding.detail.startswith(f"None for {purpose}:")
    assert mended(database)


@pytest.mark.parametrize("attribute", ["superuser", "bypassrls"])
def test_a_role_that_may_too_much_is_told_with_the_statement_that_mends_it(
    database: str, attribute: str
) -> None:
    mighty = role(database, Purpose.READER)
    run(database, f"alter role {{}} {attribute}", mighty)
    finding = findings_on_roles(database)["roles.too_mighty"]
    assert finding.severity is Severity.WARNING
    assert finding.detail.startswith(f"{mighty}: ")
    assert finding.remedy is not None
    run(database, finding.remedy.removeprefix("Run in psql: "))
    assert list(findings_on_roles(database)) == ["roles"]


@pytest.mark.parametrize(
    ("purpose", "statement", "lacked"),
    [
        (Purpose.READER, "revoke select on serving.keys from {}", "select on table serving.keys"),
        (Purpose.APP, "revoke update on sessions from {}", "update on table sessions"),
        (
            Purpose.BUILDER,
            "revoke execute on function analytics.open_window(text) from {}",
            "execute on function analytics.open_window(text)",
        ),
        (
            Purpose.BUILDER,
            "revoke select (created_at) on session_metrics from {}",
            "select (created_at) on table session_metrics",
        ),
        (Purpose.BI, "revoke usage on schema marts from {}", "usage on schema marts"),
    ],
)
def test_a_role_that_lacks_something_is_told_and_given_it_again(
    database: str, purpose: Purpose, statement: str, lacked: str
) -> None:
    robbed = role(database, purpose)
    run(database, statement, robbed)
    finding = findings_on_roles(database)["roles.privileges"]
    assert finding.severity is Severity.WARNING
    assert finding.detail == f"{robbed}: {lacked}. What needs them is refused."
    assert mended(database)


def test_of_many_privileges_that_are_lacking_the_first_are_told(database: str) -> None:
    robbed = role(database, Purpose.READER)
    run(database, "revoke select on all tables in schema analytics from {}", robbed)
    detail = findings_on_roles(database)["roles.privileges"].detail
    assert detail.count("select ") == 5
    with psycopg.connect(database) as connection:
        lacked = connection.execute(
            "select count(*) from analytics.missing_privileges('reader', %s)", [robbed]
        ).fetchall()[0][0]
    assert detail.endswith(f" and {lacked - 5} more. What needs them is refused.")
    assert mended(database)


@pytest.mark.parametrize(
    ("statement", "opened"),
    [
        ("grant select on analytics.user_keys to public", "table analytics.user_keys"),
        ("grant select (user_id) on analytics.user_keys to public", "table analytics.user_keys"),
        ("grant usage on schema analytics to public", "schema analytics"),
        (
            "grant execute on function analytics.erase_user(text) to public",
            "routine analytics.erase_user(text)",
        ),
    ],
)
def test_what_public_was_given_back_is_told_and_taken(
    database: str, statement: str, opened: str
) -> None:
    run(database, statement)
    finding = findings_on_roles(database)["roles.public"]
    assert finding.severity is Severity.WARNING
    assert finding.detail.endswith(f"has privileges on {opened}.")
    assert mended(database)


def test_the_view_that_builds_make_is_looked_at_too(database: str) -> None:
    assert build(Settings(conninfo=database)).succeeded
    run(database, "grant select on marts.fct_sessions to public")
    assert "marts.fct_sessions" in findings_on_roles(database)["roles.public"].detail
    assert mended(database)


def test_a_source_schema_that_everybody_may_create_in_is_told(database: str) -> None:
    run(database, "grant create on schema public to public")
    finding = findings_on_roles(database)["roles.source_schema"]
    assert finding.severity is Severity.WARNING
    assert finding.remedy == "Run in psql: revoke create on schema public from PUBLIC;"
    run(database, finding.remedy.removeprefix("Run in psql: "))
    assert list(findings_on_roles(database)) == ["roles"]
