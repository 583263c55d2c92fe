"""Colours of a chart that no stylesheet speaks to; a stylesheet goes by the classes."""

from __future__ import annotations

from typing import Final

__all__ = ["ACCENT", "FONT", "FONT_SIZE", "GHOST", "GRID", "INK", "MUTED", "TINT"]

ACCENT: Final = "#3a5ccc"
TINT: Final = "#e6ebfa"
GHOST: Final = "#aab4c8"
GRID: Final = "#e4e7ed"
INK: Final = "#1c2330"
MUTED: Final = "#5f6b7e"

FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
FONT_SIZE: Final = 12
