"""Neither a password nor a user id gets out: into output, files, or the list of processes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

Start = Callable[..., subprocess.Popen[bytes]]
Connection = psycopg.Connection[tuple[Any, ...]]

ROOT = Path(__file__).parents[3]
# With what needs quoting in a URL, in a connection string and in YAML.
PASSWORD = "pa55 w'or\"d/%:@ñ"
USER_ID = "somebody.who@example.org"
COMMANDS = (
    ["migrate"],
    ["doctor"],
    ["archive"],
    ["build", "--from-scratch"],
    ["stats"],
    ["stats", "--json"],
    ["stats", "--user", USER_ID],
    ["export", "--format", "csv"],
    ["reconcile", "--all"],
    ["settings"],
    ["retention", "--keep-days", "400"],
)


@pytest.fixture
def login(source: Connection, migrated_database: str) -> Iterator[str]:
    """A URL of the migrated database with the password above."""
    name = f"login_{uuid4().hex}"
    role = sql.Identifier(name)
    source.execute(
        sql.SQL("create role {} superuser login password {}").format(role, sql.Literal(PASSWORD))
    )
    given = conninfo_to_dict(migrated_database)
    yield (
        f"postgresql://{name}:{quote(PASSWORD, safe='')}@{given['host']}:{given['port']}"
        f"/{given['dbname']}"
    )
    source.execute(sql.SQL("drop role {}").format(role))


@contextmanager
def watched_processes() -> Iterator[set[bytes]]:
    """The command lines that anybody could have read meanwhile."""
    seen: set[bytes] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def forms_of(secret: str) -> list[bytes]:
    return [text.encode() for text in {secret, quote(secret, safe=""), repr(secret)[1:-1]}]


def test_a_full_run_tells_no_password_and_no_user_id(
    start: Start, source: Connection, login: str, tmp_path: Path
) -> None:
    source.execute(
        "insert into sessions (id, user_id, type, created_at, expires_at, tags) "
        "select gen_random_uuid(), %s, 'equity', now() - interval '1 day', "
        "now() - make_interval(hours => number), '[\"tag\"]' from generate_series(1, 9) as number",
        [USER_ID],
    )
    began = time()
    said: dict[str, bytes] = {}
    with watched_processes() as command_lines:
        for arguments in COMMANDS:
            process = start(
                "--debug", *arguments, conninfo=login, HOME=str(tmp_path), TMPDIR=str(tmp_path)
            )
            out, err = process.communicate(timeout=200)
            assert process.returncode == 0, err
            said[" ".join(arguments)] = out + err
        for number, wrong in enumerate(
            (login + "-nowhere", login.replace("%", "%25", 1), login + "?sslmode=oops")
        ):
            process = start("--debug", "stats", conninfo=wrong)
            said[f"wrong {number}"] = b"".join(process.communicate(timeout=60))
            assert process.returncode == 1
    written = {
        str(path): path.read_bytes()
        for folder in (ROOT / "target", ROOT / "logs", tmp_path)
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_mtime >= began - 1
    }
    assert any(name.endswith("run_results.json") or "manifest" in name for name in written)
    places = said | written | {"processes": b"\n".join(command_lines)}
    for secret in forms_of(PASSWORD):
        assert [place for place, text in places.items() if secret in text] == []
    # The user was asked for on the command line; an answer and an export tell who it is.
    for place in (f"stats --user {USER_ID}", "export --format csv", "processes"):
        del places[place]
    assert [place for place, text in places.items() if USER_ID.encode() in text] == []
