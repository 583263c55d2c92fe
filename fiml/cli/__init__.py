"""The command line `session-analytics`: each command parses, calls the library and prints."""

from fiml.cli._commands import main

__all__ = ["main"]
