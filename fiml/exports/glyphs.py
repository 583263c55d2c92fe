"""Names as a report can show them: what its fonts have no glyph for is replaced, and seen to be."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from importlib.resources import files
from typing import Final

__all__ = ["has_glyph", "visible"]

# As in a terminal.
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_SPACE: Final = "\N{OPEN BOX}"
_MOST_MARKS: Final = 2
_LONGEST: Final = 60


def visible(text: str) -> str:
    """`text` as one line in which everything shows, cut where it is long.

    Replaced are characters without a glyph, those that have no look but an effect (controls,
    another direction), and marks above and below a letter from the third on, which would cover
    other lines. Spaces at either end get a sign.
    """
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    spaced = _SPACE * before + inner + _SPACE * (len(text) - before - len(inner))
    shown: list[str] = []
    marks = 0
    for character in spaced[: _LONGEST + 1]:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        is_shown = character.isprintable() and has_glyph(character) and marks <= _MOST_MARKS
        shown.append(character if is_shown else _REPLACEMENT)
    if len(shown) > _LONGEST:
        shown[_LONGEST - 1 :] = ["…"]
    return "".join(shown)


def has_glyph(character: str) -> bool:
    """Whether one of the fonts in Typst's package shows it."""
    starts, ends = _ranges()
    code = ord(character)
    index = bisect_right(starts, code) - 1
    return index >= 0 and code <= ends[index]


@cache
def _ranges() -> tuple[list[int], list[int]]:
    # A line for each range, both ends inside: 370 37A-37F 384 ...
    lines = files("fiml.exports").joinpath("glyphs.txt").read_text(encoding="ascii").split()
    bounds = [line.partition("-")[::2] for line in lines]
    return (
        [int(first, 16) for first, _ in bounds],
        [int(last or first, 16) for first, last in bounds],
    )
