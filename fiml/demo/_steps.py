"""The steps of a command, shown so that a person can follow: a moving line, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["Step", "Steps"]

_WIDTH: Final = 40
_PLAIN_EVERY: Final = 0.25


class Step:
    """One step while it runs."""

    def __init__(self, console: Console, title: str, progress: Progress | None) -> None:
        self.detail = ""
        self._console = console
        self._progress = progress
        self._shown = 0.0
        self._task = progress.add_task(title, total=None, note="") if progress else None

    def advance(self, fraction: float) -> None:
        """Say how much is done, 0 to 1."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=1.0, completed=fraction)
        elif fraction < 1 and fraction - self._shown >= _PLAIN_EVERY:
            self._shown = fraction
            self.note(f"{fraction:.0%}")

    def note(self, text: str) -> None:
        """Say what was done or is being done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=text)
        else:
            self._console.print(f"  {text}", soft_wrap=True)


class Steps:
    """Shows steps one after the other, and how long each took."""

    def __init__(self, console: Console, checkpoint: Callable[[], None]) -> None:
        """`checkpoint` is called at the end of each step and may raise."""
        self._console = console
        self._checkpoint = checkpoint
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while the block runs, and that it is done when the block ends well."""
        began = time.monotonic()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=16),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=self._console,
                transient=True,
            ) as progress:
                step = Step(self._console, title, progress)
                yield step
        else:
            self._console.print(f"{title} ...", soft_wrap=True)
            step = Step(self._console, title, None)
            yield step
        self._checkpoint()
        self._report(title, time.monotonic() - began, step.detail)

    def end(self) -> None:
        """Say how long all of them took."""
        self._report("Done", time.monotonic() - self._began, "")

    def _report(self, title: str, seconds: float, detail: str) -> None:
        line = f"{title:<{_WIDTH}} {seconds:5.1f} s  {detail}".rstrip()
        self._console.print(line, soft_wrap=True)
