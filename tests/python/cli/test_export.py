"""The command `export`: files that are there whole or not at all, and read again."""

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import openpyxl
import psycopg
import pytest
from cli.conftest import COMMAND
from click.testing import Result
from pypdf import PdfReader

from fiml.exports.rows import plain_cell

Run = Callable[..., Result]
Start = Callable[..., subprocess.Popen[bytes]]
Connection = psycopg.Connection[tuple[Any, ...]]

ROWS = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed
)
select
    gen_random_uuid(), %s, 'equity', date_trunc('hour', now()) - number * interval '1 min', 60, 2,
    '["AAPL"]'
from generate_series(1, %s) as number
"""
BASH = shutil.which("bash")
FORMULA = "=HYPERLINK(1)"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exported(result: Result) -> None:
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Written to ")


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode(), newline=""), strict=True))


@pytest.mark.parametrize("format_", ["json", "csv", "xlsx", "pdf"])
def test_a_file_says_what_the_answer_says(
    run: Run, migrated_database: str, source: Connection, tmp_path: Path, format_: str
) -> None:
    source.execute(ROWS, ["ann", 7])
    window = ("--hours", "48", "--timezone", "Europe/Athens")
    target = tmp_path / f"figures.{format_}"
    exported(
        run(
            *("export", "--format", format_, *window, "--output", str(target)),
            conninfo=migrated_database,
        )
    )
    content = target.read_bytes()
    match format_:
        case "json":
            assert json.loads(content)["total_sessions"] == 7
        case "csv":
            assert len(rows(content)) == 7
        case "xlsx":
            summary = openpyxl.load_workbook(target)["Summary"]
            found = {row[0]: row[1] for row in summary.iter_rows(values_only=True)}
            assert (found["Sessions"], found["Time zone"]) == (7, "Europe/Athens")
        case "pdf":
            text = PdfReader(target).pages[0].extract_text()
            assert "7 sessions; 2.00 queries in each" in text
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize(
    ("arguments", "name", "beginning"),
    [
        ([], "report.pdf", b"%PDF-"),
        ([], "Report.PDF", b"%PDF-"),
        ([], "figures.xlsx", b"PK"),
        ([], "rows.csv", b"session_id,"),
        ([], "figures.json", b"{"),
        ([], "figures", b"{"),
        ([], "figures.txt", b"{"),
        (["--format", "PDF"], "report.pdf", b"%PDF-"),
        (["--format", "Csv"], "rows.txt", b"session_id,"),
    ],
)
def test_the_format_is_what_the_name_of_the_file_says(
    run: Run,
    migrated_database: str,
    tmp_path: Path,
    arguments: list[str],
    name: str,
    beginning: bytes,
) -> None:
    target = tmp_path / name
    exported(run("export", *arguments, "--output", str(target), conninfo=migrated_database))
    assert target.read_bytes().startswith(beginning)


def test_a_format_that_the_name_of_the_file_contradicts_is_refused(
    run: Run, migrated_database: str, tmp_path: Path
) -> None:
    target = tmp_path / "report.pdf"
    arguments = ("export", "--format", "json", "--output", str(target))
    refused = run(*arguments, conninfo=migrated_database)
    assert refused.exit_code == 2
    assert not target.exists()


def test_a_workbook_has_the_sessions_where_they_are_asked_for(
    run: Run, migrated_database: str, source: Connection, tmp_path: Path
) -> None:
    source.execute(ROWS, [FORMULA, 3])
    target = tmp_path / "figures.xlsx"
    arguments = ("export", "--format", "xlsx", "--sessions", "--output", str(target))
    exported(run(*arguments, conninfo=migrated_database))
    sheet = openpyxl.load_workbook(target)["Sessions"]
    assert [sheet.cell(row, 2).value for row in range(2, 5)] == [FORMULA] * 3
    assert sheet.cell(2, 2).data_type != "f"


def test_with_a_grain_the_csv_has_a_row_for_each_period(
    run: Run, migrated_database: str, source: Connection
) -> None:
    source.execute(ROWS, ["ann", 7])
    arguments = ("export", "--format", "csv", "--grain", "week", "--days", "21")
    found = rows(run(*arguments, conninfo=migrated_database).stdout_bytes)
    assert 3 <= len(found) <= 4
    assert sum(int(row["total_sessions"]) for row in found) == 7


@pytest.mark.parametrize(
    ("to_file", "option", "is_safe"),
    [
        (True, None, True),
        (True, "--exact", False),
        (False, None, False),
        (False, "--spreadsheet-safe", True),
    ],
)
def test_csv_is_safe_for_spreadsheets_in_files_and_exact_for_programs(
    run: Run,
    migrated_database: str,
    source: Connection,
    tmp_path: Path,
    to_file: bool,
    option: str | None,
    is_safe: bool,
) -> None:
    source.execute(ROWS, [FORMULA, 2])
    target = tmp_path / "sessions.csv"
    arguments = ["export", "--format", "csv", *filter(None, [option])]
    result = run(
        *arguments, *(["--output", str(target)] if to_file else []), conninfo=migrated_database
    )
    found = rows(target.read_bytes() if to_file else result.stdout_bytes)
    assert [row["user_id"] for row in found] == [f"'{FORMULA}" if is_safe else FORMULA] * 2
    assert [plain_cell(row["user_id"]) for row in found] == [FORMULA] * 2
    assert [row["duration_seconds"] for row in found] == ["60"] * 2


@pytest.mark.parametrize("format_", ["xlsx", "pdf"])
def test_a_terminal_is_not_shown_what_is_no_text(
    run: Run, migrated_database: str, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    monkeypatch.setattr("fiml.cli._export.is_terminal", lambda _stream: True)
    result = run("export", "--format", format_, conninfo=migrated_database)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "name a file with --output" in result.stderr


@pytest.mark.parametrize(("format_", "package"), [("xlsx", "xlsxwriter"), ("pdf", "typst")])
def test_a_package_that_is_missing_is_named_with_what_to_install(
    run: Run,
    migrated_database: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    format_: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("workbook", "document"):
        monkeypatch.delitem(sys.modules, f"fiml.exports.{module}", raising=False)
    target = tmp_path / "file"
    result = run(
        *("export", "--format", format_, "--output", str(target)), conninfo=migrated_database
    )
    assert result.exit_code == 1
    needed = f"Error: this command needs {package}: pip install 'session-analytics[export]'\n"
    assert result.stderr == needed
    assert names(tmp_path) == []


def test_a_failure_leaves_the_file_that_was_there(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "figures.csv"
    target.write_text("last week's")
    arguments = ("export", "--format", "csv", "--output", str(target))
    result = run(*arguments, conninfo="postgresql://127.0.0.1:1/nothing")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot connect")
    assert target.read_text() == "last week's"
    assert names(tmp_path) == ["figures.csv"]


def test_a_deadline_that_passes_is_not_taken_for_the_file_s(
    run: Run, migrated_database: str, source: Connection, tmp_path: Path
) -> None:
    with source.transaction():
        source.execute("lock table session_metrics in access exclusive mode")
        result = run(
            *("export", "--format", "csv", "--output", str(tmp_path / "figures.csv")),
            conninfo=migrated_database,
            SESSION_ANALYTICS_TIMEOUT_SECONDS="1",
        )
    assert result.exit_code == 1
    assert "cannot write" not in result.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("before", [None, b"last week's"])
def test_ctrl_c_leaves_no_half_file(
    start: Start, migrated_database: str, source: Connection, tmp_path: Path, before: bytes | None
) -> None:
    target = tmp_path / "figures.csv"
    if before is not None:
        target.write_bytes(before)
    with source.transaction():
        source.execute("lock table session_metrics in access exclusive mode")
        process = start(
            *("export", "--format", "csv", "--output", str(target)),
            conninfo=migrated_database,
            SESSION_ANALYTICS_TIMEOUT_SECONDS="60",
        )
        with psycopg.connect(migrated_database, autocommit=True) as observer:
            waiting = (
                "select exists (select from pg_stat_activity where wait_event_type = 'Lock' "
                "and datname = current_database())"
            )
            deadline = monotonic() + 60
            while observer.execute(waiting).fetchone() != (True,):
                assert monotonic() < deadline
        assert any(name.endswith(".part") for name in names(tmp_path))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")
    assert names(tmp_path) == ([] if before is None else ["figures.csv"])
    assert before is None or target.read_bytes() == before


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(
    run: Run, migrated_database: str, source: Connection, small_disk: Path, format_: str
) -> None:
    source.execute(ROWS, ["ann", 2_500])
    target = small_disk / "figures"
    arguments = ["export", "--format", format_, "--output", str(target)]
    if format_ == "xlsx":
        arguments.append("--sessions")
    result = run(*arguments, conninfo=migrated_database)
    assert result.exit_code == 1
    assert result.stderr == f"Error: cannot write {target}: No space left on device\n"
    assert names(small_disk) == []


def test_rows_that_wait_for_a_workbook_may_fill_the_temporary_folder(
    run: Run,
    migrated_database: str,
    source: Connection,
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.execute(ROWS, ["ann", 2_500])
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    target = tmp_path / "figures.xlsx"
    arguments = ("export", "--format", "xlsx", "--sessions", "--output", str(target))
    result = run(*arguments, conninfo=migrated_database)
    assert result.exit_code == 1
    told = f"cannot write {target}: No space left on device in the temporary folder {small_disk}"
    assert result.stderr == f"Error: {told}\n"
    assert names(small_disk) == []
    assert names(tmp_path) == ["disk"]


def test_a_terminal_shows_how_far_it_is(
    migrated_database: str, source: Connection, tmp_path: Path
) -> None:
    source.execute(ROWS, ["ann", 12_000])
    target = tmp_path / "sessions.csv"
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("session-analytics")), "export"]
    environment = {**os.environ, "DATABASE_URL": migrated_database, "TERM": "xterm"}
    with subprocess.Popen(
        [*command, "--format", "csv", "--output", str(target)],
        stderr=theirs,
        env={name: value for name, value in environment.items() if name != "NO_COLOR"},
    ) as process:
        os.close(theirs)
        shown = b""
        # Its end is an error on Linux.
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"Exporting" in shown
    assert b"Written to" in shown
    assert len(rows(target.read_bytes())) == 12_000


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('"$@" --output /dev/stdout | cat > o', "{}"),
        ('"$@" --output >(cat > o); wait $!', "{}"),
        ('"$@" --output /dev/stdout 2> o | sleep 0', ""),
        ('{ echo head; "$@" --output /dev/stdout; echo foot; } > o', "head\n{}foot\n"),
        ('echo before > o; "$@" --output /dev/stdout >> o', "before\n{}"),
    ],
    ids=["pipe", "substitution", "had enough", "redirected", "appended"],
)
@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_what_the_shell_opened_gets_the_export_among_the_rest(
    migrated_database: str, tmp_path: Path, script: str, expected: str
) -> None:
    command = [COMMAND, "export", "--format", "csv"]
    given = {"env": {**os.environ, "DATABASE_URL": migrated_database}, "cwd": tmp_path}
    rows = subprocess.run(command, **given, capture_output=True, check=True).stdout.decode()
    assert rows.startswith("session_id,")
    subprocess.run([BASH, "-ec", script, "bash", *command], **given, timeout=60, check=True)
    assert (tmp_path / "o").read_bytes().decode() == expected.format(rows)
