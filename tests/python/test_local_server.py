"""The local server's life: shared, surviving nobody, restartable after every kind of end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fiml import local_server as module
from fiml.errors import LocalServerError
from fiml.local_server import _binaries, _cluster, local_server, remove_local_server
from fiml.local_server._account import Account, account_to_use
from fiml.local_server._binaries import Binaries, find_binaries
from fiml.local_server._home import Home
from fiml.local_server._locks import FileLock
from fiml.local_server._postmaster import _is_postmaster

CLIENT = """
import json, sys
from pathlib import Path
from fiml.local_server import local_server

with local_server(Path(sys.argv[1]), durable=False) as server:
    print(json.dumps({
        "conninfo": server.conninfo(),
        "keeper": server.keeper_pid,
        "postmaster": server.postmaster_pid,
    }), flush=True)
    sys.stdin.read()
"""


class Client:
    """Another process that uses the server until it is told to end or is killed."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def facts(self) -> dict[str, Any]:
        """Wait until it uses the server and return what it says of it."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self, number: signal.Signals | None = None) -> None:
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders are closed to the user that the server of root runs under.
    parent = Path(tempfile.mkdtemp(prefix="session-analytics-tests-"))
    parent.chmod(0o711)
    yield parent / "server"
    remove_local_server(parent / "server")
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="session-analytics-tests-"))
    parent.chmod(0o711)
    with local_server(parent / "server", durable=False):
        pass
    yield parent / "server"
    remove_local_server(parent / "server")
    parent.rmdir()


@pytest.fixture
def made_folder(made_once: Path) -> Iterator[Path]:
    """Like `folder`, with a cluster that many tests use: making one is most of a start."""
    yield made_once
    wait_until_no_keeper_is_left(made_once)


@pytest.fixture
def start_client() -> Iterator[Callable[[Path], Client]]:
    with ExitStack() as stack:

        def start(folder: Path) -> Client:
            client = Client(folder)
            stack.callback(client.end)
            return client

        yield start


def wait_until_no_keeper_is_left(folder: Path) -> None:
    with FileLock.of(Home(folder).keeper_lock) as lock:
        lock.exclude()


def wait_until_something_exists(folder: Path, pattern: str) -> None:
    while not any(folder.glob(pattern)):
        pass


def answer(conninfo: str, statement: str = "select 1") -> Any:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def is_stopped(conninfo: str) -> bool:
    try:
        answer(conninfo)
    except psycopg.OperationalError:
        return True
    return False


def available(choice: str) -> Binaries | None:
    try:
        return find_binaries(choice)[0]
    except LocalServerError:
        return None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSSLMODE", "require"),
        ("PGREQUIRESSL", "1"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "none"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGOPTIONS", "-c role=nobody"),
        ("PGSERVICE", "nowhere"),
    ],
)
def test_variables_that_speak_of_another_server_keep_nobody_from_it(
    made_folder: Path,
    start_client: Callable[[Path], Client],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    with local_server(made_folder, durable=False) as server:
        assert answer(server.conninfo()) == 1
        other = start_client(made_folder)
        assert other.facts()["keeper"] == server.keeper_pid
        other.end()
    assert os.environ[name] == value


@pytest.mark.parametrize("source", ["system", "embedded"])
def test_either_kind_of_binaries_gives_a_server_that_ends_with_its_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    expected = available(source)
    if expected is None:
        pytest.skip(f"no {source} PostgreSQL on this machine")
    monkeypatch.setenv("SESSION_ANALYTICS_POSTGRES", source)
    with local_server(folder, durable=False) as server:
        assert (server.source, server.version) == (source, expected.version)
        assert server.host == "127.0.0.1"
        assert int(answer(server.conninfo(), "show server_version_num")) // 10_000 == expected.major
        assert answer(server.conninfo(), "show server_encoding") == "UTF8"
        assert answer(server.conninfo(), "show unix_socket_directories") == ""
    assert is_stopped(server.conninfo())
    assert not (folder / "cluster" / "data" / "postmaster.pid").exists()


def test_the_package_brings_postgresql_18() -> None:
    embedded = available("embedded")
    if embedded is None:
        pytest.skip("the extra 'local' is not installed")
    assert embedded.major >= 18


def test_a_wrong_password_is_refused(made_folder: Path) -> None:
    with local_server(made_folder, durable=False) as server:
        assert server.password not in repr(server)
        wrong = server.conninfo().replace(server.password, "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            answer(wrong)


def test_data_survives_a_restart_and_durability_is_the_default(made_folder: Path) -> None:
    with local_server(made_folder) as server:
        assert answer(server.conninfo(), "show fsync") == "on"
        answer(server.conninfo(), "create table kept as select 42 as value")
    with local_server(made_folder, durable=False) as server:
        assert answer(server.conninfo(), "show fsync") == "off"
        assert answer(server.conninfo(), "select value from kept") == 42


def test_two_clients_share_one_server_until_the_second_leaves(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    other = start_client(made_folder)
    with local_server(made_folder, durable=False) as server:
        facts = other.facts()
        assert facts["postmaster"] == server.postmaster_pid
        other.end()
        assert answer(server.conninfo()) == 1
    assert is_stopped(server.conninfo())


def test_clients_that_start_at_once_and_again_get_one_server_each_time(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    for _ in range(2):
        clients = [start_client(made_folder) for _ in range(4)]
        assert len({client.facts()["postmaster"] for client in clients}) == 1
        for client in clients:
            client.process.kill()
        for client in clients:
            client.end()


def test_killing_the_only_client_ends_the_server(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    client = start_client(made_folder)
    facts = client.facts()
    client.end(signal.SIGKILL)
    wait_until_no_keeper_is_left(made_folder)
    assert is_stopped(facts["conninfo"])
    assert not (made_folder / "running.json").exists()


def test_ctrl_c_ends_the_client_and_the_server(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    client = start_client(made_folder)
    facts = client.facts()
    os.killpg(client.process.pid, signal.SIGINT)
    client.end()
    wait_until_no_keeper_is_left(made_folder)
    assert is_stopped(facts["conninfo"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_killing_the_keeper_ends_the_server_and_the_next_start_works(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    client = start_client(made_folder)
    facts = client.facts()
    answer(facts["conninfo"], "create table kept_by_recovery as select 42 as value")
    os.kill(facts["keeper"], signal.SIGKILL)
    wait_until_no_keeper_is_left(made_folder)
    with local_server(made_folder, durable=False) as server:
        assert server.postmaster_pid != facts["postmaster"]
        assert not _is_postmaster(facts["postmaster"], made_folder / "cluster" / "data")
        assert answer(server.conninfo(), "select value from kept_by_recovery") == 42


def test_a_server_that_crashes_takes_its_keeper_along_and_the_next_start_recovers(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    facts = start_client(made_folder).facts()
    os.kill(facts["postmaster"], signal.SIGKILL)
    wait_until_no_keeper_is_left(made_folder)
    with local_server(made_folder, durable=False) as server:
        assert server.keeper_pid != facts["keeper"]
        assert answer(server.conninfo()) == 1


def test_ending_the_keeper_politely_stops_the_server(
    made_folder: Path, start_client: Callable[[Path], Client]
) -> None:
    facts = start_client(made_folder).facts()
    os.kill(facts["keeper"], signal.SIGTERM)
    wait_until_no_keeper_is_left(made_folder)
    assert is_stopped(facts["conninfo"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_first_start_that_is_interrupted_leaves_nothing_that_breaks_the_next(
    folder: Path, start_client: Callable[[Path], Client], number: signal.Signals
) -> None:
    client = start_client(folder)
    wait_until_something_exists(folder, "unfinished-*/data/*")
    client.end(number)
    assert client.process.returncode != 0
    wait_until_no_keeper_is_left(folder)
    with local_server(folder, durable=False) as server:
        assert answer(server.conninfo()) == 1


def test_what_a_killed_initdb_left_is_removed(folder: Path) -> None:
    leftover = folder / "unfinished-abc" / "data"
    leftover.mkdir(parents=True)
    folder.chmod(0o711)
    (leftover / "PG_VERSION").write_text("15\n")
    with local_server(folder, durable=False) as server:
        assert answer(server.conninfo()) == 1
    assert not list(folder.glob("unfinished-*"))


@pytest.mark.parametrize("pid_file", ["{own}\n/somewhere\n", "1\n", "999999999\n", "", "rubbish"])
def test_files_of_a_crashed_machine_do_not_stop_the_next_start(
    made_folder: Path, pid_file: str
) -> None:
    with local_server(made_folder, durable=False) as server:
        running = (made_folder / "running.json").read_text()
    (made_folder / "running.json").write_text(running)
    stale = made_folder / "cluster" / "data" / "postmaster.pid"
    stale.write_text(pid_file.format(own=os.getpid()))
    owner = stale.parent.stat()
    os.chown(stale, owner.st_uid, owner.st_gid)
    with local_server(made_folder, durable=False) as again:
        assert again.keeper_pid != server.keeper_pid
        assert answer(again.conninfo()) == 1


def test_removing_a_server_that_is_in_use_is_refused(
    made_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMOVE_SECONDS", 0.1)
    with (
        local_server(made_folder, durable=False) as server,
        pytest.raises(LocalServerError, match="in use"),
    ):
        remove_local_server(made_folder)
    assert is_stopped(server.conninfo())


def test_a_cluster_of_a_version_that_is_gone_is_an_error_that_names_it(made_folder: Path) -> None:
    version = made_folder / "cluster" / "data" / "PG_VERSION"
    original = version.read_text()
    version.write_text("14\n")
    try:
        with (
            pytest.raises(LocalServerError, match="was made by PostgreSQL 14"),
            local_server(made_folder, durable=False),
        ):
            pass
    finally:
        version.write_text(original)


def test_without_any_postgresql_the_error_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_binaries, "_SYSTEM_PATTERNS", ())
    monkeypatch.setattr(_binaries, "_EMBEDDED_PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("SESSION_ANALYTICS_POSTGRES", raising=False)
    with pytest.raises(LocalServerError, match=r"no PostgreSQL 15 or newer .* set DATABASE_URL"):
        find_binaries()
    monkeypatch.setenv("SESSION_ANALYTICS_POSTGRES", str(folder))
    with (
        pytest.raises(LocalServerError, match="no PostgreSQL 15 or newer"),
        local_server(folder, durable=False),
    ):
        pass


def test_a_choice_that_means_nothing_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(LocalServerError, match="'system', 'embedded' or the absolute path"):
        find_binaries("newest")


def test_a_wrapper_script_is_not_taken_for_the_server(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        script = tmp_path / name
        script.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n")
        script.chmod(0o755)
    with pytest.raises(LocalServerError, match="no PostgreSQL 15 or newer"):
        find_binaries(str(tmp_path))


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change to another user")


@as_root
def test_root_gets_a_server_outside_a_folder_that_only_root_can_enter(folder: Path) -> None:
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)
    with local_server(closed / "server", durable=False) as server:
        answer(server.conninfo(), "create table kept as select 42 as value")
    elsewhere = Path((closed / "server" / "elsewhere").read_text())
    assert (elsewhere / "cluster" / "data").stat().st_uid != 0
    with local_server(closed / "server", durable=False) as server:
        assert answer(server.conninfo(), "select value from kept") == 42
    remove_local_server(closed / "server")
    assert not elsewhere.exists()


@as_root
def test_root_copies_packaged_binaries_that_only_root_can_reach(tmp_path: Path) -> None:
    packaged = available("embedded")
    if packaged is None:
        pytest.skip("the extra 'local' is not installed")
    account = account_to_use()
    assert isinstance(account, Account)
    package = packaged.folder.parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(
        packaged.folder.parent, closed / package.name / packaged.folder.parent.name, symlinks=True
    )
    out_of_reach = Binaries(
        closed / packaged.folder.relative_to(package.parent),
        packaged.major,
        packaged.minor,
        packaged.source,
    )
    assert not account.can_run(out_of_reach.postgres)
    base = Path(tempfile.mkdtemp(prefix="session-analytics-tests-"))
    base.chmod(0o711)
    try:
        reachable = _cluster._reachable(out_of_reach, account, base)
        assert account.can_run(reachable.postgres)
        assert base in reachable.postgres.parents
        assert _cluster._reachable(out_of_reach, account, base) == reachable
    finally:
        shutil.rmtree(base)
