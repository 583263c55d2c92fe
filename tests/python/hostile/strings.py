"""Strings that mean something to somebody on the way: to SQL, a shell, a terminal, a spreadsheet.

Seeded: the same strings at every run. The first are the kinds themselves, then come mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Final

__all__ = ["HALF_PAIRS", "KINDS", "NUL", "hostile_strings", "is_storable"]

NUL: Final = "\0"
HALF_PAIRS: Final = ("\ud800", "\udbff", "\udc00", "\udfff", "\ude00\ud83d")

# Code points that a terminal, or a reader of text, obeys and does not show.
_CONTROLS: Final = tuple(map(chr, [*range(1, 32), *range(0x7F, 0xA0)]))
_BIDI: Final = tuple("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_INVISIBLE: Final = tuple(
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\u2028\u2029\u00a0\u3000"
)

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "SQL": (
        "'",
        "''",
        '"',
        "' or '1'='1",
        "' or 1=1 --",
        '" or ""="',
        "'; drop table sessions; --",
        "'; delete from session_metrics; select '",
        "$$; drop schema analytics cascade; $$",
        "$1",
        "E'\\x27'",
        "\\'; select pg_sleep(60); --",
        "ann'/*",
        "*/ union select null --",
        "ann' union all select user_id from analytics.user_keys --",
        "); truncate session_metrics; --",
        "::regclass",
        "U&'\\0027'",
        "null",
        "NULL",
        "default",
        "current_user",
    ),
    "LIKE and patterns": (
        "%",
        "_",
        "%%",
        "a%",
        "_nn",
        "\\%",
        "an_",
        "[a-z]*",
        ".*",
        "^ann$",
        "(a+)+$",
    ),
    "formats": (
        "%s",
        "%(user_id)s",
        "%(days)s::integer",
        "%n%n%n",
        "%",
        "{}",
        "{0}",
        "{user_id}",
        "{self.__class__.__mro__}",
        "{{ this }}",
        "{% for x in y %}",
        "${HOME}",
        "$(id)",
        "`id`",
        "[bold]ann[/bold]",
        "[/nothing]",
        "[link=file:///etc/passwd]ann[/link]",
    ),
    "paths": (
        "../../../../etc/passwd",
        "/etc/passwd",
        "C:\\Windows\\system32",
        "\\\\server\\share",
        "file:///etc/passwd",
        "~root",
        "-",
        "--",
        "-o",
        "--yes",
        "--user=bob",
        ".",
        "/dev/null/x",
    ),
    "spreadsheet formulas": (
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1:A9)",
        '=HYPERLINK("http://x","y")',
        "\t=1",
        "\r=1",
        ";=1",
    ),
    "CSV": (",", '","', 'a"b', "\r\n", "a\nb", "a\rb", '"\r\n"', ",,,,,,"),
    "terminals": (
        "\x1b[2J",
        "\x1b]0;owned\x07",
        "\x1b[31mred\x1b[0m",
        "\x1bc",
        "\x9b2J",
        "\x08\x08\x08bob",
        "\rError: none",
        "\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\",
        "\x1b_Gf=100;\x1b\\",
        "\x7f",
        "\x85",
    ),
    "markup and code": (
        "<script>alert(1)</script>",
        "&lt;",
        '{"userId": null}',
        "[]",
        "{}",
        "true",
        "__proto__",
        "constructor",
        "0",
        "00",
        "1e400",
        "nan",
        "inf",
        "-0",
        "0x1f",
        "1_000",
        "\u0661\u0662",
        "30 ",
        "None",
        "\\u0000",
        "\\ud800",
        "\\",
        "\\\\",
    ),
    "controls": _CONTROLS,
    "bidi": (*_BIDI, "\u202eann\u202c", "\u2067\u0627\u0628\u062c", "\u05d0\u05d1\u05d2 abc"),
    "invisible": (*_INVISIBLE, "an\u200bn", "ann\u200d", "\ufeffann", " ann", "ann ", " "),
    "composition": (
        "e\u0301",
        "\u00e9",
        "\u0301",
        "Z\u0351\u0352\u0353\u0354\u0355\u0356",
        "\u212b",
        "\ufb01",
        "\u0130",
        "\u00df",
        "\u1e9e",
        "\u03a3\u03c3\u03c2",
        "\U0001f600",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1ec\U0001f1f7",
        "\U0010ffff",
        "\uffff",
        "\ufdd0",
        "\ue000",
        "\u65e5\u672c",
        "\u0410nn",
        "ANN",
    ),
    "length": (
        "",
        "x" * 255,
        "x" * 256,
        "\U0001f600" * 255,
        "\U0001f600" * 256,
        "y" * 10_000,
        "'" * 10_000,
        "\x1b" * 300,
        "\u0301" * 255,
    ),
    "what PostgreSQL cannot hold": (
        NUL,
        f"ann{NUL}",
        f"ann{NUL}' or 1=1 --",
        *HALF_PAIRS,
        "ann\ud800",
        "\udcff\udcfe",
    ),
}


def hostile_strings(count: int, seed: int = 1) -> list[str]:
    """So many different strings, every kind of `KINDS` first."""
    return list(islice(_distinct(Random(seed)), count))


def is_storable(text: str, longest: int = 255) -> bool:
    """Whether a column of text takes it as a name of 1 to `longest` characters."""
    return (
        0 < len(text) <= longest
        and NUL not in text
        and not any(0xD800 <= ord(character) < 0xE000 for character in text)
    )


def _distinct(random: Random) -> Iterator[str]:
    seen: set[str] = set()
    # One of each kind in turn, so that few strings are of all kinds as well.
    kinds = [list(strings) for strings in KINDS.values()]
    while any(kinds):
        for strings in kinds:
            if strings and (text := strings.pop(0)) not in seen:
                seen.add(text)
                yield text
    pool = sorted(seen)
    while True:
        text = "".join(random.choices(pool, k=random.randint(2, 4)))
        if random.random() < 0.3:
            text = _with_inserted(random, text)
        text = text[: random.choice([60, 255, 256, 20_000])]
        if text not in seen:
            seen.add(text)
            yield text


def _with_inserted(random: Random, text: str) -> str:
    place = random.randint(0, len(text))
    inserted = random.choice([*_CONTROLS, *_BIDI, *_INVISIBLE, *HALF_PAIRS, NUL, "ann", "'"])
    return text[:place] + inserted + text[place:]
