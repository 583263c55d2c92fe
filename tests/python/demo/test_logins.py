"""The logins of the demo's database on a local server."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fiml.demo._database import DATABASE, new_demo_database
from fiml.demo._logins import make_logins, with_logins
from fiml.local_server import LocalServer, local_server, remove_local_server
from fiml.sessions.migrations import migrate
from fiml.sessions.roles import Purpose, role_names
from fiml.settings import Settings


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    # pytest's own folders are closed to the user that the server of root runs under.
    folder = Path(tempfile.mkdtemp(prefix="session-analytics-logins-"))
    folder.chmod(0o711)
    try:
        with local_server(folder / "server", durable=False) as server:
            yield server
    finally:
        remove_local_server(folder)


def test_each_purpose_logs_in_as_its_role_also_after_the_demo_was_made_again(
    own_server: LocalServer,
) -> None:
    for _ in range(2):
        with new_demo_database(own_server.conninfo()) as conninfo:
            assert migrate(conninfo)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                make_logins(connection, own_server)
    settings = with_logins(Settings(conninfo=own_server.conninfo(DATABASE)), own_server)
    for purpose in (Purpose.APP, Purpose.BUILDER, Purpose.READER):
        with psycopg.connect(settings.connecting_as(purpose).conninfo) as connection:
            found = connection.execute("select session_user, current_setting('is_superuser')")
            assert found.fetchone() == (role_names(DATABASE)[purpose], "off")


def test_a_password_is_a_role_s_own_and_says_nothing_of_the_superuser_s() -> None:
    server = LocalServer(
        port=1,
        password="the superuser's",
        version="18.0",
        source="embedded",
        data_dir=Path("/"),
        keeper_pid=1,
        postmaster_pid=1,
    )
    passwords = {server.password_of(role) for role in ("one", "other")}
    assert len(passwords) == 2
    assert all(len(password) == 64 for password in passwords)
    assert server.conninfo("db", "a role").startswith("postgresql://a%20role:")
