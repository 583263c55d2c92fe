"""What the demo prints at its end: the documented dictionaries, a picture, and what to run next."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fiml.cli._connection import NAMES_A_DATABASE
from fiml.cli._figures import picture
from fiml.demo.history import HEAVY_USER

__all__ = ["print_answers", "print_next", "write_environment_file"]


def print_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """Print each answer as JSON on stdout, then the first one as the command `stats` shows it.

    An answer's `meta` gives the time in its heading and is left out of the JSON: what remains is
    the documented dictionary.
    """
    try:
        for answer in answers:
            documented = {name: value for name, value in answer.items() if name != "meta"}
            whose = answer["user_id"] or "Everybody"
            print(  # noqa: T201
                f"\n{whose}, the {answer['period_days']} days before {answer['meta']['as_of']}:"
            )
            print(json.dumps(documented, indent=2, ensure_ascii=False))  # noqa: T201
        print()  # noqa: T201
        first = {name: value for name, value in answers[0].items() if name != "meta"}
        Console(highlight=False).print(picture(first))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it has seen enough; nor may Python complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def write_environment_file(file: Path, conninfo: str) -> None:
    """Write a file for `.` (the shell's source) that points the commands at the demo's database."""
    # The conninfo may hold a password.
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"export DATABASE_URL={shlex.quote(conninfo)}\n", encoding="utf-8")


def print_next(console: Console, environ: Mapping[str, str], environment_file: Path | None) -> None:
    """Print commands to go on with.

    Args:
        console: where to.
        environ: the environment that the commands will be run in.
        environment_file: what `write_environment_file` wrote; None where the demo's server is the
            local one, which the commands find by themselves.
    """
    command = _from_here(Path(sys.executable).parent / "session-analytics")
    lines = [
        (_serve(command), "the page, with sample sessions that come in"),
        (f"{command} stats --days 7", "the last week"),
        (f"{command} stats --user {HEAVY_USER} --type equity", "one user, one type"),
        (f"{command} doctor", "is everything as it should be?"),
        (_dagster(command), "the same job on its schedule, with a web interface"),
    ]
    if environment_file is not None:
        lines.insert(0, (f". {_from_here(environment_file)}", "names the demo's database"))
        if shutil.which("psql"):
            query = "'table marts.daily_session_stats limit 5'"
            lines.append((f'psql "$DATABASE_URL" -c {query}', "what BI tools see"))
    elif in_the_way := [name for name in NAMES_A_DATABASE if environ.get(name)]:
        lines.insert(0, (f"unset {' '.join(in_the_way)}", "so that the local server is found"))
    console.print("\nNext:")
    width = max(len(line) for line, _ in lines)
    for line, what in lines:
        console.print(f"  {line:<{width}}  # {what}", soft_wrap=True)


def _serve(command: str) -> str:
    if Path("Makefile").is_file():
        return "make serve"
    return f"{command} serve --insecure-local --demo-traffic"


def _dagster(command: str) -> str:
    return "make dagster" if Path("Makefile").is_file() else f"{command} dagster"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
