"""YAML with line numbers: each value is asked for by name, a wrong one refused with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

import yaml  # type: ignore[import-untyped]

from fiml.errors import AlertFileError, SessionAnalyticsError
from fiml.sessions._arguments import shown

__all__ = ["Entries", "Value", "parse"]

_DEEPEST: Final = 20
_PLAIN_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,15})?")

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def parse(text: str, source: str) -> Value:
    """Return the one document of a text.

    Args:
        text: YAML.
        source: what messages begin with: the name of the file.

    Raises:
        AlertFileError: it is no YAML.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise AlertFileError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise AlertFileError(f"{source}: not valid YAML: it holds a control character") from None
    except RecursionError:
        raise AlertFileError(f"{source}: not valid YAML: it is nested too deeply") from None
    if node is None:
        raise AlertFileError(f"{source}: it is empty; expected channels, rules or reports")
    return Value(node, source, "the file", 0)


class Value:
    """One value, and where it stands."""

    def __init__(self, node: Any, source: str, path: str, depth: int) -> None:
        """Take a node of the parser's; `path` is what messages call it."""
        self._node = node
        self._source = source
        self._depth = depth
        self.path = path

    def refuse(self, expected: str) -> NoReturn:
        """Say what was given and what is expected.

        Raises:
            AlertFileError: always.
        """
        self.complain(f"is {self._given()}; expected {expected}")

    def complain(self, problem: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            AlertFileError: always.
        """
        line = self._node.start_mark.line + 1
        raise AlertFileError(f"{self._source} line {line}: {self.path} {problem}")

    def entries(self, known: Sequence[str]) -> Entries:
        """A mapping of known keys."""
        if not isinstance(self._node, yaml.MappingNode):
            self.refuse(f"keys and values: {', '.join(known)}")
        found: dict[str, Value] = {}
        for key, node in self._node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            at_key = Value(key, self._source, self.path, self._depth)
            if name not in known:
                at_key.complain(f"has the key {at_key._given()}; expected {', '.join(known)}")
            if name in found:
                at_key.complain(f"has the key {name!r} twice")
            found[name] = self._below(node, f"{self.path}: {name}" if self._depth else name)
        return Entries(self, found)

    def named(self) -> Iterator[tuple[str, Value]]:
        """A mapping of any keys, each once."""
        if not isinstance(self._node, yaml.MappingNode):
            self.refuse("names, each with what it is")
        seen: set[str] = set()
        for key, node in self._node.value:
            at_key = Value(key, self._source, self.path, self._depth)
            name = at_key.text()
            if name in seen:
                at_key.complain(f"has the key {name!r} twice")
            seen.add(name)
            yield name, self._below(node, f"{self.path}: {name}")

    def elements(self) -> list[Value]:
        """A list."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.refuse("a list")
        return [
            self._below(node, f"{self.path}[{number}]")
            for number, node in enumerate(self._node.value, start=1)
        ]

    def text(self, longest: int = 255) -> str:
        """Text of one line, not empty, all of it visible."""
        expected = f"text of 1 to {longest} characters"
        if not self._is("str"):
            self.refuse(f"{expected}; quote what looks like something else")
        text = str(self._node.value)
        if not 0 < len(text) <= longest:
            self.complain(f"has {len(text)} characters; expected {expected}")
        if not text.isprintable() or text != text.strip():
            self.refuse(f"{expected} in one line, without control characters and spaces around")
        return text

    def matching(self, pattern: re.Pattern[str], expected: str) -> str:
        """Text of one form."""
        if not (self._is("str") and pattern.fullmatch(self._node.value)):
            self.refuse(expected)
        return str(self._node.value)

    def choice(self, kind: type[E]) -> E:
        """A member of an enumeration."""
        if not self._is("str") or self._node.value not in set(kind):
            self.refuse(f"one of {', '.join(kind)}")
        return kind(self._node.value)

    def whole_number(self, least: int, most: int) -> int:
        """An integer in a range, both ends inside."""
        text = self._node.value
        is_plain = self._is("int") and text.isascii() and text.isdigit() and len(text) <= 15
        if not (is_plain and least <= int(text) <= most):
            self.refuse(f"an integer from {least} to {most}")
        return int(text)

    def number(self) -> str:
        """A number as it is written: no infinity, no exponent, no other base."""
        is_number = self._is("int") or self._is("float")
        if not (is_number and _PLAIN_NUMBER.fullmatch(self._node.value)):
            self.refuse("a number, such as 20 or 0.3")
        return str(self._node.value)

    def checked(self, check: Callable[[str], T]) -> T:
        """What a check of the library's makes of text; it is refused in the library's words."""
        if not self._is("str"):
            # Not repeated: it may be a user id.
            self.complain("is no text; expected text, in quotes where it looks like a number")
        try:
            return check(self._node.value)
        except SessionAnalyticsError as error:
            # It begins with the name of the argument.
            self.complain(str(error).partition(" ")[2])

    def _is(self, tag: str) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag.endswith(f":{tag}")

    def _given(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        told = shown(self._node.value)
        return told if self._is("str") else told[1:-1] or "empty"

    def _below(self, node: Any, path: str) -> Value:
        # An anchor may hold an alias of itself.
        if self._depth >= _DEEPEST:
            self.complain("is nested too deeply")
        return Value(node, self._source, path, self._depth + 1)


class Entries:
    """The entries of a mapping, asked for by key."""

    def __init__(self, mapping: Value, found: Mapping[str, Value]) -> None:
        """Take what was found; each key is a known one."""
        self._mapping = mapping
        self._found = found

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def get(self, key: str) -> Value | None:
        """The value of a key that may be missing."""
        return self._found.get(key)

    def __getitem__(self, key: str) -> Value:
        value = self._found.get(key)
        if value is None:
            self._mapping.complain(f"has no {key}")
        return value

    def one_of(self, *keys: str) -> tuple[str, Value]:
        """The one of these keys that is there."""
        given = [key for key in keys if key in self._found]
        if len(given) != 1:
            counted = "none" if not given else "more than one"
            self._mapping.complain(f"has {counted} of {', '.join(keys)}; expected one of them")
        return given[0], self._found[given[0]]

    def complain(self, problem: str) -> NoReturn:
        """Say what is wrong with the mapping.

        Raises:
            AlertFileError: always.
        """
        self._mapping.complain(problem)

    def rename(self, path: str) -> None:
        """Call the mapping something else in messages."""
        for value in self._found.values():
            value.path = path + value.path.removeprefix(self._mapping.path)
        self._mapping.path = path
