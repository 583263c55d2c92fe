"""Hostile strings through every argument: of library, command line and MCP tool.

What is asked of one user is answered with that user's rows alone, whatever the id looks like; what
is no argument is refused by its name; nothing of it reaches the database as anything but a value,
or a terminal as anything but text.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result
from hostile.strings import HALF_PAIRS, NUL, hostile_strings, is_storable
from mcp import Client
from pydantic import ValidationError

from fiml.cli import main
from fiml.errors import InvalidArgumentError, InvalidUserIdError, UnknownSessionTypeError
from fiml.mcp.server import TOOL_NAME, build_server
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.maintenance import erase_user, erasure_receipt
from fiml.sessions.models import QueryRecord, Session
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

COMMAND = str(Path(sys.executable).with_name("session-analytics"))
# Users whose rows nobody asks for: each differs from a hostile string by little.
OTHERS = ("ann", "bob", "\N{GREEK SMALL LETTER SIGMA}", "Ann", "an", "x" * 254)

# Everything that is defined; rows, statistics and sequences come and go.
CATALOGUE = """
select 'relation', c.oid::regclass::text, c.relkind::text, concat(c.relacl, c.relowner)
from pg_class as c where c.relnamespace = any(%(schemas)s::regnamespace[]) and c.relkind <> 't'
union all
select 'column', attrelid::regclass::text, attname::text, concat(atttypid::regtype, attnotnull)
from pg_attribute inner join pg_class as c on c.oid = attrelid
where c.relnamespace = any(%(schemas)s::regnamespace[]) and not attisdropped
union all
select 'function', oid::regprocedure::text, prosrc, concat(proacl, prosecdef)
from pg_proc where pronamespace = any(%(schemas)s::regnamespace[])
union all
select 'trigger', tgrelid::regclass::text, tgname::text, concat(pg_get_triggerdef(oid), tgenabled)
from pg_trigger
union all
select 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
from pg_constraint where connamespace = any(%(schemas)s::regnamespace[])
union all
select 'schema', nspname::text, nspacl::text, nspowner::text
from pg_namespace where nspname !~ '^pg_(toast_)?temp'
union all
select 'setting', setdatabase::text, setrole::text, setconfig::text
from pg_db_role_setting
inner join pg_database on pg_database.oid = setdatabase and datname = current_database()
order by 1, 2, 3, 4
"""
SCHEMAS = ["public", "analytics", "marts", "serving"]


def fingerprint(database: Connection) -> list[tuple[Any, ...]]:
    return database.execute(CATALOGUE, {"schemas": SCHEMAS}).fetchall()


def rows_of_others(database: Connection) -> list[tuple[Any, ...]]:
    return database.execute(
        "select 'sessions', to_jsonb(sessions)::text from sessions where user_id = any(%(users)s) "
        "union all select 'session_metrics', to_jsonb(session_metrics)::text from session_metrics "
        "where user_id = any(%(users)s) order by 1, 2",
        {"users": list(OTHERS)},
    ).fetchall()


@pytest.fixture
def database(migrated_database: str) -> Iterator[Connection]:
    """Every other user has three sessions with metrics, and two that are open."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, assets_analyzed, tags) select gen_random_uuid(), user_id, 'equity', "
            "now() - interval '1 h', 60, '[\"OTHER\"]', '[\"other\"]' "
            "from unnest(%s::text[]) as user_id, generate_series(1, 3)",
            [list(OTHERS)],
        )
        connection.execute(
            "insert into sessions (id, user_id, type, created_at, expires_at) "
            "select gen_random_uuid(), user_id, 'equity', now() - interval '1 h', '2999-01-01' "
            "from unnest(%s::text[]) as user_id, generate_series(1, 2)",
            [list(OTHERS)],
        )
        yield connection


@contextmanager
def unharmed(database: Connection) -> Iterator[None]:
    """Nothing is defined otherwise afterwards, and no other user's row has changed."""
    before = fingerprint(database), rows_of_others(database)
    assert len(before[0]) > 300
    assert len(before[1]) == 5 * len(OTHERS)
    yield
    after = fingerprint(database), rows_of_others(database)
    assert after == before


def add_users(database: Connection, texts: Sequence[str]) -> None:
    """Of each string that can be a user there is one session with metrics."""
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, assets_analyzed) select gen_random_uuid(), user_id, 'macro', "
        "now() - interval '1 h', 1, jsonb_build_array(user_id) "
        "from unnest(%s::text[]) as user_id",
        [[text for text in texts if is_storable(text) and text not in OTHERS]],
    )


# The library -------------------------------------------------------------------------------------


async def refused(
    wanted: type[InvalidArgumentError],
    call: Callable[..., Awaitable[Any]],
    *given: Any,
    **named: Any,
) -> None:
    """The call is refused with exactly this error, in a sentence that a log can take."""
    with pytest.raises(InvalidArgumentError) as refusal:
        await call(*given, **named)
    assert type(refusal.value) is wanted or wanted is InvalidArgumentError
    message = str(refusal.value)
    assert "expected" in message
    assert len(message) < 500
    assert message.isprintable()


async def ask_the_reader(analytics: SessionAnalytics, text: str) -> None:
    read, export = analytics.get_session_stats, analytics.export_session_metrics
    if is_storable(text):
        expected = 3 if text in OTHERS else 1
        for answer in (await read(text), await analytics.get_user_session_summary(text)):
            assert answer["user_id"] == text
            assert answer["total_sessions"] == expected
            assert [row["symbol"] for row in answer["top_assets"]] == [
                "OTHER" if text in OTHERS else text
            ]
        table = await export("csv", user_id=text)
        assert isinstance(table, str)
        rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
        assert [row["user_id"] for row in rows] == [text] * expected
    else:
        await refused(InvalidUserIdError, read, text)
        await refused(InvalidUserIdError, analytics.get_user_session_summary, text)
        await refused(InvalidUserIdError, export, "csv", user_id=text)
    await refused(UnknownSessionTypeError, read, session_type=text)
    await refused(UnknownSessionTypeError, export, "csv", session_type=text)
    await refused(InvalidArgumentError, read, days=text)
    await refused(InvalidArgumentError, read, include_meta=text)
    await refused(InvalidArgumentError, export, text)
    await refused(InvalidArgumentError, analytics.record_session_metrics, text)


async def ask_the_store(store: SessionStore, analytics: SessionAnalytics, text: str) -> None:
    create = store.create_session
    if is_storable(text):
        session = await create([text, "A"], "macro", text, tags=[text])
        assert (session.user_id, session.assets, session.tags) == (text, [text, "A"], [text])
        query = QueryRecord(query_type=text, parameters={text: [text]}, result_summary=text)
        await store.add_query(session.id, query)
        session.state.update_context(text, {text: text})
        session.tags = [f"{text}"[:254] + "."]
        session = await store.update_session(session.id, session)
        stored = await store.get_session(str(session.id))
        assert stored == session
        assert stored.state.history.queries == [query]
        assert stored.state.context == {text: {text: text}}
        listed = await store.list_user_sessions(text, include_archived=True)
        assert {row.user_id for row in listed} == {text}
        assert session.id in {row.id for row in listed}
        assert await analytics.record_session_metrics(session)
        assert await store.archive_session(session.id)
        assert await store.delete_session(session.id)
    else:
        await refused(InvalidUserIdError, create, ["A"], "macro", text)
        await refused(InvalidUserIdError, store.list_user_sessions, text)
        await refused(InvalidArgumentError, create, ["A", text], "macro")
        await refused(InvalidArgumentError, create, ["A"], "macro", tags=[text])
        with pytest.raises(ValidationError):
            QueryRecord(query_type=text)
        with pytest.raises(ValidationError):
            Session(type="macro", assets=[text])
    some_id = uuid4()
    await refused(UnknownSessionTypeError, create, ["A"], text)
    await refused(InvalidArgumentError, create, text, "macro")
    await refused(InvalidArgumentError, create, ["A"], "macro", ttl_hours=text)
    await refused(InvalidArgumentError, create, ["A"], "macro", tags=text)
    await refused(InvalidArgumentError, store.list_user_sessions, "ann", include_archived=text)
    await refused(InvalidArgumentError, store.list_user_sessions, "ann", limit=text)
    await refused(InvalidArgumentError, store.extend_session, some_id, text)
    await refused(InvalidArgumentError, store.add_query, some_id, text)
    await refused(InvalidArgumentError, store.update_session, some_id, text)
    for call in (store.get_session, store.delete_session, store.archive_session):
        await refused(InvalidArgumentError, call, text)
    for call in (store.update_session, store.add_query):
        await refused(InvalidArgumentError, call, text, "anything")
    await refused(InvalidArgumentError, store.extend_session, text)


async def ask_maintenance(store: SessionStore, text: str) -> None:
    database = store._session_maker
    if not is_storable(text):
        await refused(InvalidUserIdError, erase_user, database, text)
        await refused(InvalidUserIdError, erasure_receipt, database, text)
    elif text not in OTHERS:
        # The row that was added, of this user alone; then it is said that nothing is left of it.
        assert (await erasure_receipt(database, text))["session_metrics"] == 1
        assert await erase_user(database, text) == 1
        assert (await erasure_receipt(database, text))["session_metrics"] == 0
        assert (await erasure_receipt(database, "ann"))["session_metrics"] == 3


def through_the_library(conninfo: str, database: Connection, texts: Sequence[str]) -> None:
    add_users(database, texts)

    async def ask() -> None:
        settings = Settings(conninfo=conninfo, timeout_seconds=60)
        async with SessionStore(settings) as store:
            analytics = SessionAnalytics(store)
            for text in texts:
                await ask_the_reader(analytics, text)
                await ask_the_store(store, analytics, text)
                await ask_maintenance(store, text)

    with unharmed(database):
        asyncio.run(ask())


def test_hostile_strings_are_values_or_refused_by_the_library(
    migrated_database: str, database: Connection
) -> None:
    through_the_library(migrated_database, database, hostile_strings(160))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_thousand_hostile_strings_are_values_or_refused_by_the_library(
    migrated_database: str, database: Connection
) -> None:
    through_the_library(migrated_database, database, hostile_strings(2_000))


# The command line --------------------------------------------------------------------------------


def steering(text: str) -> set[str]:
    """What of a text a terminal would obey, or show in another order than it stands."""
    return {
        character
        for character in text
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character != "\n"
    }


def run(conninfo: str, *arguments: str, stdin: bytes | None = None) -> Result:
    """A command in this process; nothing is taken out of what it prints."""
    result = CliRunner().invoke(
        main,
        arguments,
        input=stdin,
        env={"DATABASE_URL": conninfo, "COLUMNS": "100", "NO_COLOR": None, "FORCE_COLOR": None},
        color=True,
    )
    assert result.exit_code in {0, 1, 2}, arguments
    assert "Traceback" not in result.output
    assert "Error: unexpected" not in result.output
    return result


def quiet(result: Result) -> str:
    """What was printed, none of which a terminal obeys."""
    assert not steering(result.stdout.replace("\r\n", "\n"))
    assert not steering(result.stderr)
    return result.stdout


def told(result: Result, *, exit_code: int = 2) -> str:
    assert result.exit_code == exit_code, result.output
    assert quiet(result) == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def through_the_commands(
    conninfo: str, database: Connection, texts: Sequence[str], folder: Path
) -> None:
    # No command line carries NUL; standard input does.
    for text in texts:
        database.execute("delete from session_metrics where user_id <> all(%s)", [list(OTHERS)])
        add_users(database, [text])
        if NUL not in text:
            # Bytes that are no text come as Python reads them from a command line.
            given = text.encode(errors="surrogatepass").decode(errors="surrogateescape")
            _ask_the_commands(conninfo, given, folder)
        if text in OTHERS or "\n" in text or "\r" in text:
            continue
        line = text.encode(errors="surrogatepass") + b"\n"
        erased = run(conninfo, "erase-user", "--yes", stdin=line)
        if is_storable(text):
            assert quiet(erased).startswith("1 row was removed")
            database.execute("delete from analytics.erased_users")
        else:
            assert "user_id" in told(erased)


def _ask_the_commands(conninfo: str, text: str, folder: Path) -> None:
    if is_storable(text):
        expected = 3 if text in OTHERS else 1
        quiet(run(conninfo, "stats", f"--user={text}", "--meta"))
        answer = json.loads(quiet(run(conninfo, "stats", "--json", f"--user={text}")))
        assert (answer["user_id"], answer["total_sessions"]) == (text, expected)
        exported = run(conninfo, "export", f"--user={text}")
        assert json.loads(quiet(exported)) == answer
        # A table is data for a program, and the same bytes as in a file.
        table = run(conninfo, "export", "--format=csv", f"--user={text}").stdout_bytes.decode()
        rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
        assert [row["user_id"] for row in rows] == [text] * expected
    else:
        assert "user_id" in told(run(conninfo, "stats", f"--user={text}"))
        assert "user_id" in told(run(conninfo, "export", f"--user={text}"))
    assert "session_type" in told(run(conninfo, "stats", f"--type={text}"))
    if not _is_whole_number(text):
        assert "days" in told(run(conninfo, "stats", f"--days={text}"))
        assert "keep_days" in told(run(conninfo, "retention", f"--keep-days={text}"))
        assert "--port" in told(run(conninfo, "mcp", "--http", "--no-fold", f"--port={text}"))
    assert "format" in told(run(conninfo, "export", f"--format={text}"))
    told(run(conninfo, f"--{text} "))
    told(run(conninfo, "stats", f"--no-{text}"))
    told(run(conninfo, "stats", f" {text}"))
    missing = str(folder / "missing" / text[:60].replace("..", ""))
    told(run(conninfo, "export", f"--output={missing}/x"), exit_code=1)


def _is_whole_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def commands_strings(count: int) -> list[str]:
    """Many that steer a terminal, and what cannot be a user: most others are for the library."""
    texts = hostile_strings(2_000)
    steers = islice(filter(steering, texts), count // 2)
    return list(dict.fromkeys([*HALF_PAIRS[:1], NUL, *steers, *texts[: count - count // 2]]))


def test_hostile_strings_are_values_or_refused_by_the_commands(
    migrated_database: str, database: Connection, tmp_path: Path
) -> None:
    with unharmed(database):
        through_the_commands(migrated_database, database, commands_strings(16), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_hundred_hostile_strings_are_values_or_refused_by_the_commands(
    migrated_database: str, database: Connection, tmp_path: Path
) -> None:
    with unharmed(database):
        through_the_commands(migrated_database, database, commands_strings(200), tmp_path)


def test_what_a_terminal_is_shown_of_names_steers_it_nowhere(
    migrated_database: str, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [text for text in hostile_strings(400) if is_storable(text, 50) and steering(text)]
    assert len(names) > 100
    database.execute(
        "insert into session_metrics (session_id, user_id, session_type, created_at, "
        "duration_seconds, assets_analyzed, tags, query_type_summary, cache_hit_rate) "
        "select gen_random_uuid(), name, name, now() - interval '1 h', 1, "
        "jsonb_build_array(name), jsonb_build_array(name), jsonb_build_object(name, 9), name "
        "from unnest(%s::text[]) as name",
        [names],
    )
    quiet(run(migrated_database, "stats", "--meta"))
    figures = json.loads(quiet(run(migrated_database, "stats", "--json")))
    assert figures["query_type_distribution"].keys() == set(names)
    assert json.loads(quiet(run(migrated_database, "export"))) == figures
    exact = run(migrated_database, "export", "--format=csv")
    assert steering(exact.stdout)
    monkeypatch.setattr("fiml.cli._export.is_terminal", lambda _stream: True)
    shown = run(migrated_database, "export", "--format=csv")
    assert len(quiet(shown)) == len(exact.stdout.replace("\r\n", "\n"))


# The MCP tool ------------------------------------------------------------------------------------


def through_mcp(conninfo: str, database: Connection, texts: Sequence[str]) -> None:
    add_users(database, texts)

    async def ask() -> None:
        settings = Settings(conninfo=conninfo, timeout_seconds=60)
        async with Client(build_server(settings)) as client:

            async def call(**arguments: object) -> Any:
                return await client.call_tool(TOOL_NAME, arguments)

            for text in texts:
                if any(0xD800 <= ord(character) < 0xE000 for character in text):
                    continue  # No client can send it as text; see the next test.
                answer = await call(userId=text)
                if is_storable(text):
                    assert not answer.is_error
                    assert answer.structured_content["user_id"] == text
                    assert answer.structured_content["total_sessions"] == (
                        3 if text in OTHERS else 1
                    )
                else:
                    assert answer.is_error
                    assert answer.content[0].text.startswith("userId ")
                for arguments, begin in (
                    ({"sessionType": text}, "sessionType is "),
                    ({"days": text}, "days is "),
                    ({text: 1}, "Unknown argument "),
                ):
                    refusal = await call(**arguments)
                    assert refusal.is_error
                    told = refusal.content[0].text
                    assert told.startswith(begin)
                    assert told.isprintable()
                    assert len(told) <= 500

    with unharmed(database):
        asyncio.run(ask())


def test_hostile_strings_are_values_or_refused_by_the_tool(
    migrated_database: str, database: Connection
) -> None:
    through_mcp(migrated_database, database, hostile_strings(80))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_thousand_hostile_strings_are_values_or_refused_by_the_tool(
    migrated_database: str, database: Connection
) -> None:
    through_mcp(migrated_database, database, hostile_strings(2_000))


def test_what_no_client_sends_does_not_end_a_server_on_standard_input(
    migrated_database: str, database: Connection
) -> None:
    """Escapes of half a pair, bytes that are no text, lines that are no request."""
    call = (
        '{"jsonrpc": "2.0", "id": %s, "method": "tools/call", "params": '
        '{"name": "get-session-analytics", "arguments": {"userId": %s}}}'
    )
    hello = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
    )
    lines = [
        hello.encode(),
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        (call % (2, r'"\ud800"')).encode(),
        (call % (3, '"\udc80"')).encode(errors="surrogateescape"),
        (call % (4, r'"ann\u0000"')).encode(),
        b"",
        b"\x1b[2J",
        b"[" * 100_000,
        (call % (5, '"' + "x" * 1_000_000 + '"')).encode(),
        (call % (6, '"ann"')).encode(),
    ]
    with unharmed(database), _serving(migrated_database) as server:
        server.stdin.write(b"\n".join(lines) + b"\n")
        server.stdin.flush()
        answers: dict[int, Any] = {}
        while 6 not in answers:
            answer = json.loads(server.stdout.readline())
            if "result" in answer:
                answers[answer["id"]] = answer["result"]
        _, logged = server.communicate(timeout=20)
    for refused_id in (4, 5):
        assert answers[refused_id]["isError"]
        assert "userId" in answers[refused_id]["content"][0]["text"]
    assert answers[6]["structuredContent"]["total_sessions"] == 3
    assert server.returncode == 0
    assert b"Traceback" not in logged


@contextmanager
def _serving(conninfo: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [COMMAND, "mcp", "--no-fold"],
        env={**os.environ, "DATABASE_URL": conninfo},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
