"""Hostile strings through every argument of the command line.

What is no argument is refused by its name; nothing of it reaches the database as anything but a
value, or a terminal as anything but text.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hostile.bystanders import OTHERS, Connection, add_users, unharmed
from hostile.strings import HALF_PAIRS, NUL, hostile_strings, is_storable

from fiml.cli import main


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
