"""What a contender is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Runner
from collections.abc import Awaitable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, TypeVar

from benchmarks.answers import Answer
from benchmarks.questions import Question
from benchmarks.scale import Scale
from fiml.database import Database

__all__ = [
    "Contender",
    "Ground",
    "NotInstalledError",
    "Pooled",
    "optional_module",
]

T = TypeVar("T")


class NotInstalledError(Exception):
    """A contender needs a package that is not there; the message names it."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What contenders stand on.

    Attributes:
        conninfo: the database with the history.
        database: the reader's own pool on it, open.
        runner: the loop that the pool belongs to.
        folder: a temporary folder, for those with storage of their own.
        scale: how much there is.
    """

    conninfo: str
    database: Database
    runner: Runner
    folder: Path
    scale: Scale


class Contender(ABC):
    """One way to answer.

    Attributes:
        name: in the results.
        title: in tables.
        is_compared: its answers are to be equal to the others'.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    is_compared: ClassVar[bool] = True

    @abstractmethod
    def answer(self, question: Question) -> Answer:
        """The documented dictionary."""

    def seconds(self, question: Question) -> float:
        """How long one answer takes."""
        began = perf_counter()
        self.answer(question)
        return perf_counter() - began

    def declines(self, question: Question, rows: int) -> str | None:
        """Why it is not asked this question, whose window has so many rows; None: it is."""
        del question, rows
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of connections and files."""


class Pooled(Contender):
    """A contender that asks through the reader's pool."""

    def __init__(self, ground: Ground) -> None:
        self._database = ground.database
        self._runner = ground.runner

    @abstractmethod
    async def ask(self, question: Question) -> Answer:
        """The documented dictionary."""

    def answer(self, question: Question) -> Answer:
        """As `ask`, from outside of the loop."""
        return self._runner.run(_awaited(self.ask(question)))

    def seconds(self, question: Question) -> float:
        """Taken inside the loop: starting it is nobody's cost."""
        return self._runner.run(_timed(self.ask(question)))


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _timed(work: Awaitable[object]) -> float:
    began = perf_counter()
    await work
    return perf_counter() - began


def optional_module(name: str) -> Any:
    """A package of the extra `bench`.

    Raises:
        NotInstalledError: it is not there.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise NotInstalledError(f"{name} is not installed") from error
