"""SVG elements as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

__all__ = ["element", "number", "path", "text", "text_width"]

# What XML 1.0 has no way to write, escaped or not.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Of the font's size: digits and small letters of the fonts that systems have are narrower.
_WIDTH_OF_A_CHARACTER: Final = 0.58


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is finer than anybody sees."""
    shown = f"{value:.1f}"
    return shown.removesuffix(".0") if shown != "-0.0" else "0"


def element(name: str, *children: str, **attributes: str | float | None) -> str:
    """One element; `_` in the name of an attribute is `-`, and `class_` is `class`."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = "".join(children)
    return f"<{name}{shown}>{content}</{name}>" if content else f"<{name}{shown}/>"


def text(content: str, x: float, y: float, **attributes: str | float | None) -> str:
    """Text, whatever it holds."""
    shown = escape(_NOT_IN_XML.sub("\ufffd", content), quote=False)
    return element("text", shown, x=x, y=y, **attributes)


def path(points: Iterable[tuple[float, float]]) -> str:
    """The `d` of a line through points."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def text_width(content: str, size: float) -> float:
    """About how wide text is, and rather wider."""
    return len(content) * size * _WIDTH_OF_A_CHARACTER


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(_NOT_IN_XML.sub("\ufffd", value))
    return number(value)
