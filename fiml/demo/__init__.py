"""`session-analytics demo`: sample history through the whole pipeline."""

from fiml.demo.command import run

__all__ = ["run"]
