"""The command line: what to measure, and at which scales."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, Final

import click
import psycopg
from rich.console import Console
from rich.text import Text

from benchmarks.bench import Options
from benchmarks.children import ChildError
from benchmarks.console import print_bars, print_sections
from benchmarks.contenders import CONTENDERS
from benchmarks.database import benchmark_server
from benchmarks.measure import Effort
from benchmarks.questions import SCOPES
from benchmarks.report import write_report, write_sentence
from benchmarks.results import load_results
from benchmarks.run import SECTIONS, run
from benchmarks.scale import SCALES, Scale
from benchmarks.sections.reads import DifferentAnswerError
from fiml.errors import SessionAnalyticsError, SettingsError

__all__ = ["main"]

_PAGE: Final = "benchmarks.md"
_FOLDER: Final = "benchmarks"
_README: Final = "README.md"
_WIDTH: Final = 140
# Above it, somebody else is using the machine.
_QUIET_LOAD: Final = 0.7
_MOST_DAYS: Final = 180
_MOST_CLIENTS: Final = 1024
_MOST_SECONDS: Final = 86_400.0
_FAILURES: Final = (
    SessionAnalyticsError,
    ChildError,
    DifferentAnswerError,
    LookupError,
    psycopg.Error,
    OSError,
)


class _Listed(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them, each checked by a function that says what is allowed."""

    name = "list"

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Read all of them, each once, in the order given."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(dict.fromkeys(self._read(part.strip()) for part in value.split(",")))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return text

    return read


def _up_to(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise ValueError(f"{text!r} is no integer from 1 to {most}")
        return int(text)

    return read


_SECONDS: Final = click.FloatRange(0, _MOST_SECONDS, min_open=True)


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--scale",
    "scales",
    type=_Listed(Scale.parse),
    default="100k",
    show_default=True,
    metavar="LIST",
    help=f"Archived sessions: {', '.join(SCALES)}, or any number; several with commas.",
)
@click.option(
    "--sections",
    type=_Listed(_one_of(SECTIONS)),
    default=",".join(SECTIONS),
    metavar="LIST",
    help=f"What to measure, of {', '.join(SECTIONS)}; default: everything.",
)
@click.option(
    "--scopes",
    type=_Listed(_one_of(SCOPES)),
    default=",".join(SCOPES),
    show_default=True,
    metavar="LIST",
    help="Whose figures are read.",
)
@click.option(
    "--days",
    type=_Listed(_up_to(_MOST_DAYS)),
    default="1,7,30,90",
    show_default=True,
    metavar="LIST",
    help=f"Lengths of windows, 1 to {_MOST_DAYS}.",
)
@click.option(
    "--clients",
    type=_Listed(_up_to(_MOST_CLIENTS)),
    default="1,8,64,256",
    show_default=True,
    metavar="LIST",
    help="Concurrent callers.",
)
@click.option(
    "--contenders",
    type=_Listed(_one_of(CONTENDERS)),
    default=",".join(CONTENDERS),
    metavar="LIST",
    help=f"Of {', '.join(CONTENDERS)}; default: all that are installed.",
)
@click.option(
    "--seconds",
    type=_SECONDS,
    default=3.0,
    show_default=True,
    help="How long each contender is timed in each cell of the table.",
)
@click.option(
    "--load-seconds",
    type=_SECONDS,
    default=5.0,
    show_default=True,
    help="How long each number of callers is measured.",
)
@click.option(
    "--live-seconds",
    type=_SECONDS,
    default=600.0,
    show_default=True,
    help="How long 50 sessions a second are archived beside the readers.",
)
@click.option(
    "--database",
    envvar="BENCHMARK_DATABASE_URL",
    metavar="URL",
    help="A server to use instead of the local one; the run makes a database of its own there.",
)
@click.option("--keep", is_flag=True, help="Leave the database, and use what a run has left.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help=f"Where {_PAGE}, its chart and {_FOLDER}/*.json are written.",
)
@click.option("--report-only", is_flag=True, help="Measure nothing; write the page again.")
def main(
    scales: tuple[Scale, ...],
    sections: tuple[str, ...],
    scopes: tuple[str, ...],
    days: tuple[int, ...],
    clients: tuple[int, ...],
    contenders: tuple[str, ...],
    seconds: float,
    load_seconds: float,
    live_seconds: float,
    database: str | None,
    keep: bool,
    output: Path,
    report_only: bool,
) -> None:
    """Measure this project's reader against what else could answer, and write it down.

    First checks that everybody answers the same, then takes times in turns, so that the ratios hold
    on a machine whose times do not. Uses the local PostgreSQL, or the server of --database.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    errors = Console(stderr=True, highlight=False)
    options = Options(
        scopes=scopes,
        days=days,
        clients=clients,
        contenders=contenders,
        effort=Effort(seconds=seconds),
        load_seconds=load_seconds,
        live_seconds=live_seconds,
    )
    # That an interrupt closes connections is no news, nor what becomes of a call that it left;
    # every other one is awaited, and its exception raised.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    load_before = 0.0
    try:
        with _terminable():
            if not report_only:
                load_before = os.getloadavg()[0]
                with benchmark_server(database) as server:
                    for scale in scales:
                        with _progress(errors, f"{scale}") as note:
                            measured = run(
                                server,
                                scale,
                                options,
                                sections,
                                output / _FOLDER,
                                is_kept=keep,
                                note=note,
                            )
                        print_sections(console, scale, measured)
            results = load_results(output / _FOLDER)
            if not results:
                raise click.ClickException(f"there are no results in {output / _FOLDER}")
            written = write_report(results, output / _PAGE)
            readme = output.resolve().parent / _README
            if write_sentence(results, readme):
                written.append(readme)
            print_bars(console, results)
            if load_before > _QUIET_LOAD:
                errors.print(
                    f"The machine was busy before (load {load_before:.1f}): what waits its turn "
                    "takes as long as what works, and all ratios are too small.",
                    soft_wrap=True,
                )
            console.print(f"\nWritten: {', '.join(map(str, written))}", soft_wrap=True)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # asyncio's runner forgets why it cancelled where the signal comes before its first step.
        # A call may have been made and not yet handed to the event loop.
        warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
        errors.print("\nInterrupted; what was measured before is in the results.", soft_wrap=True)
        sys.exit(130)
    except SettingsError:
        raise click.BadParameter(
            "no PostgreSQL connection string; expected postgresql://user:password@host:port/database",
            param_hint="--database",
        ) from None
    except (
        SessionAnalyticsError,
        ChildError,
        psycopg.Error,
        DifferentAnswerError,
        OSError,
    ) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM an interrupt, so that it leaves as little behind as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Where an event loop runs, SIGINT cancels what it does.
        signal.raise_signal(signal.SIGINT)

    # A shell starts what runs in the background with SIGINT ignored.
    before_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, before_interrupt)


@contextmanager
def _progress(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """A moving line on a terminal, else a line for each note."""
    began = monotonic()

    def told(note: str) -> Text:
        return Text(f"{monotonic() - began:6.0f} s  {title}: {note}")

    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(Text(title)) as status:
            yield lambda note: status.update(told(note))
        return
    yield lambda note: console.print(told(note), soft_wrap=True)
