"""Each command with the login that is named for it, and with no other."""

import json
from collections.abc import Callable

import psycopg
import pytest
from click.testing import CliRunner, Result
from roles.installation import Installation
from warehouse.application import leave_expired_sessions, record_metrics

from fiml.cli import main
from fiml.errors import SettingsError
from fiml.sessions.roles import Purpose
from fiml.settings import Settings
from fiml.warehouse.folding import folding_environment

Run = Callable[..., Result]


@pytest.fixture
def run(installation: Installation) -> Run:
    """`run("stats")`, where DATABASE_URL leads nowhere and the logins are named."""
    environment = installation.environment()
    return lambda *arguments: CliRunner().invoke(main, arguments, env=environment)


def test_commands_archive_build_compare_examine_and_read_with_logins_of_their_own(
    installation: Installation, run: Run
) -> None:
    with installation.connected() as connection:
        record_metrics(connection, 10)
        leave_expired_sessions(connection, 2)
    for arguments in (["archive"], ["build"], ["reconcile", "--all"], ["doctor"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    told = run("stats", "--json")
    assert json.loads(told.stdout)["total_sessions"] == 12
    assert run("export").exit_code == 0


def test_what_is_the_operator_s_uses_none_of_them(run: Run) -> None:
    for arguments in (["migrate"], ["retention", "--keep-days", "9"], ["uninstall", "--yes"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "127.0.0.1" in result.stderr


def test_a_login_that_is_not_named_is_database_url_s() -> None:
    settings = Settings.from_environment(
        {"DATABASE_URL": "host=a", "SESSION_ANALYTICS_APP_URL": ""}
    )
    for purpose in Purpose:
        assert settings.connecting_as(purpose) == settings


def test_a_login_that_is_no_connection_string_is_named_without_its_password() -> None:
    with pytest.raises(SettingsError, match="SESSION_ANALYTICS_READER_URL is no") as raised:
        Settings.from_environment({"SESSION_ANALYTICS_READER_URL": "mysql://a:secret@host/x"})
    assert "secret" not in str(raised.value)


def test_a_child_gets_the_logins_of_the_settings_and_not_those_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_ANALYTICS_BUILDER_URL", "host=another")
    env = folding_environment(Settings(conninfo="host=this"))
    here = Settings.from_environment(env).connecting_as(Purpose.BUILDER)
    assert psycopg.conninfo.conninfo_to_dict(here.conninfo) == {"host": "this"}
