"""How much data a run is made with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["FEWEST", "MOST", "SCALES", "Scale"]

SCALES: Final = ("100k", "1m", "5m", "10m")
FEWEST: Final = 1_000
MOST: Final = 50_000_000

_UNITS: Final = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, order=True, slots=True)
class Scale:
    """A number of archived sessions.

    Attributes:
        sessions: `FEWEST` to `MOST`.
    """

    sessions: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "100k", "5m" or a plain number.

        Raises:
            ValueError: it is none of these, or out of range; the message says what is allowed.
        """
        match = re.fullmatch(r"([0-9]{1,9})([km]?)", text.strip().lower())
        sessions = int(match[1]) * _UNITS[match[2]] if match else 0
        if not FEWEST <= sessions <= MOST:
            raise ValueError(
                f"{text!r} is no scale; expected {', '.join(SCALES)}, or a number of sessions "
                f"from {FEWEST} to {MOST}"
            )
        return cls(sessions)

    def __str__(self) -> str:
        """As it is given: "5m"."""
        for unit, factor in (("m", 1_000_000), ("k", 1_000)):
            if self.sessions % factor == 0:
                return f"{self.sessions // factor}{unit}"
        return str(self.sessions)
