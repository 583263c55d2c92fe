"""Rounds of a campaign: each follows from the seed and its number, so that any can be repeated."""

from __future__ import annotations

import json
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Self

from campaigns.ground import Ground

from fiml.local_server._binaries import find_binaries

__all__ = ["MOST", "Campaign", "Progress", "play_round"]

# What is counted under a name that begins so is no sum over rounds, but the most of any.
MOST = "most "
_LONGEST = 300

Play = Callable[[Ground, Random], Counter[str]]


@dataclass(frozen=True)
class Campaign:
    """One kind of disturbance.

    Attributes:
        name: what it is called on the command line and in the page.
        disturbance: what happens, for the page.
        play: plays one round, and returns what happened in it, counted by kind.
        rounds: of the whole campaign.
        short: of its version among the tests.
        is_possible: whether this machine and account can do that.
        play_short: plays a round among the tests, where that is another one.
    """

    name: str
    disturbance: str
    play: Play
    rounds: int
    short: int
    is_possible: Callable[[], bool] = lambda: True
    play_short: Play | None = None


def play_round(
    campaign: Campaign, ground: Ground, seed: int, number: int, *, is_short: bool = False
) -> Counter[str]:
    """Play one round, or a round of the version among the tests.

    Raises:
        AssertionError: something was lost, doubled or wrong; a note says how to play it again.
    """
    play = (campaign.play_short if is_short else None) or campaign.play
    try:
        return play(ground, Random(f"{campaign.name}/{seed}/{number}"))
    except BaseException as failure:
        failure.add_note(f"{campaign.name}, seed {seed}, round {number}")
        raise


@dataclass
class Progress:
    """What was played so far, kept in a file after each round.

    Attributes:
        seed: of every round.
        played: rounds 0 to played - 1 are over.
        violations: of each failed round its number and what was wrong, in a line.
        events: what happened, counted by kind; the most of it where the kind begins so.
        seconds: of play.
        ended_at: of the last round, UTC.
        played_on: rounds by the revision and the server that they were played on, since that is
            written down.
    """

    seed: int
    played: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    ended_at: str = ""
    played_on: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path, seed: int) -> Self:
        """Go on where the file ends, or begin where there is none of this seed."""
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["seed"] == seed:
                counted = {name: Counter(kept.get(name, {})) for name in ("events", "played_on")}
                return cls(**{**kept, **counted})
        return cls(seed)

    def write(self, path: Path) -> None:
        """Keep it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(
            json.dumps(
                {
                    "seed": self.seed,
                    "played": self.played,
                    "violations": self.violations,
                    "events": dict(sorted(self.events.items())),
                    "seconds": round(self.seconds, 1),
                    "ended_at": self.ended_at,
                    "played_on": dict(self.played_on),
                },
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        )
        unfinished.replace(path)

    def _add(self, happened: Counter[str]) -> None:
        most = {kind: count for kind, count in happened.items() if kind.startswith(MOST)}
        self.events |= Counter(most)
        self.events += happened - Counter(most)

    def play(
        self, campaign: Campaign, ground: Ground, path: Path, rounds: int, deadline: float
    ) -> Iterator[dict[str, Any]]:
        """Play up to `rounds` in all, or until a moment of the monotonic clock.

        Yields each violation.
        """
        here = f"{_revision()}, PostgreSQL {find_binaries()[0].version}"
        while self.played < rounds and monotonic() < deadline:
            number, began, violation = self.played, monotonic(), None
            try:
                self._add(play_round(campaign, ground, self.seed, number))
            except Exception as failure:  # noqa: BLE001 - whatever it is, the round has failed
                violation = {"round": number, "what": _told(failure)[:_LONGEST]}
                self.violations.append(violation)
            self.played += 1
            self.played_on[here] += 1
            self.seconds += monotonic() - began
            self.ended_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
            self.write(path)
            if violation is not None:
                yield violation


def _revision() -> str:
    """What is checked out, and whether anything but the results was changed."""
    name = _git("describe", "--always", "--abbrev=10").stdout.strip()
    is_changed = _git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs").returncode
    return f"{name or 'no revision'}{' and changes' if is_changed else ''}"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _told(failure: Exception) -> str:
    what = traceback.format_exception_only(failure)[0].strip().splitlines()[0]
    if str(failure):
        return what
    # An assertion that says nothing: which one it is.
    place = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{what}, {Path(place.filename).name}:{place.lineno}: {place.line}"
