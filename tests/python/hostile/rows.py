"""Malformed rows of the two source tables, as text that PostgreSQL is to read, or to refuse.

Seeded: the same rows at every run. A row is malformed in a few of its columns and plausible in the
others, so that most get past the column types and meet the triggers, the folds and the readers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Final
from uuid import UUID

from exactness.moments import NOON
from hostile.strings import hostile_strings

__all__ = ["USERS", "Row", "good_rows", "malformed_rows"]

METRICS: Final = "session_metrics"
SESSIONS: Final = "sessions"
USERS: Final = ("ann", "bob", "%", "'; drop table sessions; --", "\u202eann")
TYPES: Final = ("equity", "crypto", "macro", "portfolio", "comparative", "unheard-of", "", "%")

_STRINGS: Final = hostile_strings(600, seed=2)
# Text in place of a number, or no number at all, or one that is out of every range.
_NUMBERS: Final = (
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "2.0",
    "2.5",
    "1e2",
    "1E-400",
    "1e400",
    "-1e400",
    "2147483647",
    "2147483648",
    "2147483647.0",
    "0.9999999999999999999999999",
    "1e131071",
    "1e131072",
    "9" * 5_000,
    "1." + "0" * 16_000 + "1",
)
_NO_NUMBERS: Final = (
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "",
    " ",
    "01",
    "+1",
    ".5",
    "1.",
    "0x1",
    "1_000",
    "\u0661",
)
_RATES: Final = (
    "0",
    "1",
    "0.5",
    "0.0",
    "1.0",
    "00.50",
    "1.0000000000000000000000001",
    "0." + "1" * 25,
    "0." + "1" * 26,
    "1" * 20,
    "1" * 21,
    "100",
    "-0.5",
    "-0",
    "1e-3",
    "1e400",
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "",
    " ",
    " 0.5",
    "0.5 ",
    "0.5\n",
    "0,5",
    ".5",
    "1.",
    "50%",
    "\uff10.5",
    "\u0660",
    "null",
    "0.5" * 20,
)
_INTEGERS: Final = (
    *("0", "-1", "1", "2147483647", "-2147483648") * 3,
    "2147483648",
    "1e3",
    "2.5",
    "nan",
    "",
    "\u0661",
    None,
)
_TIMES: Final = (
    "infinity",
    "-infinity",
    "epoch",
    "4713-01-01 00:00:00+00 BC",
    "0001-01-01 00:00:00+00",
    "9999-12-31 23:59:59.999999+00",
    "10000-01-01 00:00:00+00",
    "294276-12-31 23:59:59.999999+00",
    "294277-01-01 00:00:00+00",
    "2026-02-30",
    "2026-03-29 24:00:00+00",
    "2026-03-29 12:00:00+15:59:59",
    "",
    "nan",
    None,
)
_FLAGS: Final = ("t", "f", "yes", "0", "maybe", "", None)
_NO_JSON: Final = ("", " ", "[", '["a",]', "{'a': 1}", "nul", "[1 2]", '{"a"}', '"', "\x1b", "[]]")
_UNREADABLE_ESCAPES: Final = (r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', r'"\x"')


@dataclass(frozen=True)
class Row:
    """A row as text: a column that is not named takes its default."""

    table: str
    values: dict[str, str | None]


def malformed_rows(count: int, seed: int = 1) -> list[Row]:
    """So many rows, about as many of either table."""
    random = Random(seed)
    return [
        _metrics(random, number) if number % 2 else _session(random, number)
        for number in range(1, count + 1)
    ]


def good_rows(count: int, first: int) -> list[Row]:
    """Rows without a fault, to be written beside the others; ids from `first` on."""
    return [
        Row(
            METRICS,
            {
                "session_id": str(UUID(int=first + number)),
                "user_id": "good",
                "session_type": "equity",
                "created_at": (NOON - timedelta(hours=1 + number)).isoformat(),
                "duration_seconds": "60",
                "total_queries": "2",
                "assets_analyzed": '["GOOD"]',
                "query_type_summary": '{"good": 2}',
                "tags": '["good"]',
            },
        )
        for number in range(count)
    ]


def _metrics(random: Random, number: int) -> Row:
    # Some belong to a session that is there too, malformed as well.
    session = number - 1 if random.random() < 0.3 else number
    values: dict[str, str | None] = {
        "session_id": str(UUID(int=session)),
        "user_id": _user(random),
        "session_type": random.choice(TYPES),
        "created_at": _moment(random),
        "duration_seconds": str(random.randint(0, 7_200)),
        "total_queries": str(random.randint(0, 9)),
        "cache_hit_rate": "0.25",
        "avg_query_time_ms": random.choice(["12.5", None]),
        "assets_analyzed": _names(random),
        "query_type_summary": '{"price": 2}',
        "tags": random.choice(['["tech"]', None, "null"]),
        "completed_normally": random.choice(["true", "false"]),
        "abandoned": random.choice(["true", "false"]),
    }
    return Row(
        METRICS,
        _spoilt(
            random,
            values,
            {
                "user_id": _text,
                "session_type": _text,
                "created_at": _one_of(_TIMES),
                "duration_seconds": _one_of(_INTEGERS),
                "total_queries": _one_of(_INTEGERS),
                "cache_hit_rate": _one_of(_RATES),
                "avg_query_time_ms": _one_of(_RATES),
                "assets_analyzed": _json,
                "query_type_summary": _json,
                "tags": _json,
                "abandoned": _one_of(_FLAGS),
            },
        ),
    )


def _session(random: Random, number: int) -> Row:
    created_at = _moment(random)
    values: dict[str, str | None] = {
        "id": str(UUID(int=number)),
        "user_id": _user(random),
        "type": random.choice(TYPES),
        "tags": '["tech"]',
        "assets": _names(random),
        "created_at": created_at,
        # Most have expired long ago, so that an archival takes them.
        "expires_at": random.choice([created_at, created_at, created_at, "2999-01-01", None]),
        "is_archived": "false",
        "archived_at": None,
        "state": "{}",
        "query_history": random.choice(['[{"query_type": "price"}]', _history(random)]),
        "total_queries": str(random.randint(0, 3)),
    }
    if random.random() < 0.2:
        values |= {"is_archived": "true", "archived_at": _moment(random)}
    return Row(
        SESSIONS,
        _spoilt(
            random,
            values,
            {
                "user_id": _text,
                "type": _text,
                "tags": _json,
                "assets": _json,
                "created_at": _one_of(_TIMES),
                "expires_at": _one_of(_TIMES),
                "archived_at": _one_of(_TIMES),
                "is_archived": _one_of(_FLAGS),
                "state": _json,
                "query_history": _json,
                "total_queries": _one_of(_INTEGERS),
            },
        ),
    )


def _spoilt(
    random: Random,
    values: dict[str, str | None],
    spoil: dict[str, Callable[[Random], str | None]],
) -> dict[str, str | None]:
    columns = random.sample(sorted(spoil), k=random.choice([1, 1, 1, 1, 2, 2, 3]))
    return values | {column: spoil[column](random) for column in columns}


def _one_of(choices: Sequence[str | None]) -> Callable[[Random], str | None]:
    return lambda random: random.choice(choices)


def _text(random: Random) -> str | None:
    return random.choice([*random.choices(_STRINGS, k=9), None, "x" * 255 + " " * 300])


def _user(random: Random) -> str | None:
    return random.choice([*USERS, None])


def _moment(random: Random) -> str:
    back = timedelta(
        days=random.choice([0, 0, 1, 3, 20, 89]),
        hours=random.randint(0, 23),
        microseconds=random.choice([0, 1, 999_999]),
    )
    return (NOON - back).isoformat()


def _names(random: Random) -> str:
    return json.dumps(random.choices(["AAPL", "TSLA", "MSFT"], k=random.randint(0, 3)))


# JSON as text, so that it can be what no library would write --------------------------------------


def _json(random: Random) -> str:
    kinds: list[tuple[int, Callable[[Random], str]]] = [
        (6, _array),
        (6, _object),
        (3, _value),
        (1, _deep),
        (1, _huge),
        (1, lambda random: random.choice([*_NO_JSON, *_UNREADABLE_ESCAPES, "NaN", "[Infinity]"])),
    ]
    weights, makers = zip(*kinds, strict=True)
    return random.choices(makers, weights)[0](random)


def _value(random: Random, depth: int = 0) -> str:
    kind = random.randrange(9 if depth < 3 else 7)
    match kind:
        case 0:
            return random.choice(["null", "true", "false"])
        case 1 | 2:
            return random.choice(_NUMBERS)
        case 3:
            return json.dumps(random.choice([*_NUMBERS[:10], *_NO_NUMBERS]))
        case 4 | 5 | 6:
            return _string(random)
        case 7:
            return _array(random, depth + 1)
        case _:
            return _object(random, depth + 1)


def _string(random: Random) -> str:
    text = random.choice(_STRINGS)
    kind = random.random()
    if kind < 0.05:
        return random.choice(_UNREADABLE_ESCAPES)
    # Where a name begins and ends to be one.
    if kind < 0.15:
        return json.dumps(random.choice(["", "x", "x" * 255, "x" * 256, "\U0001f600" * 256]))
    # Half of a pair, or NUL, would have most rows refused, and it is met above.
    text = "".join(c for c in text if c != "\0" and not 0xD800 <= ord(c) < 0xE000)
    return json.dumps(text, ensure_ascii=random.random() < 0.5)


def _array(random: Random, depth: int = 0) -> str:
    return f"[{', '.join(_value(random, depth) for _ in range(random.randint(0, 5)))}]"


def _object(random: Random, depth: int = 0) -> str:
    # Keys come twice now and then: the last one is kept.
    keys = [random.choice(['"price"', '"news"', '""', _string(random)]) for _ in range(4)]
    members = [f"{key}: {_value(random, depth)}" for key in keys[: random.randint(0, 4)]]
    return "{" + ", ".join(members) + "}"


def _deep(random: Random) -> str:
    levels = random.choice([20, 101, 1_000, 3_000, 100_000])
    opening, inner, closing = random.choice([("[", "1", "]"), ('{"a":', '"x"', "}")])
    nested = opening * levels + inner + closing * levels
    return random.choice([nested, f'["AAPL", {nested}]', f'{{"price": 1, "x": {nested}}}'])


def _huge(random: Random) -> str:
    size = random.choice([300, 2_000])
    return random.choice(
        [
            lambda: json.dumps([f"N{number}" for number in range(size)]),
            lambda: json.dumps({f"q{number}": number for number in range(size)}),
            lambda: json.dumps(["x" * 10_000, "\U0001f600" * 10_000]),
            lambda: json.dumps({"x" * 10_000: 1, "ok": 1}),
            lambda: json.dumps([None] * size),
        ]
    )()


def _history(random: Random) -> str:
    elements = []
    for _ in range(random.randint(0, 4)):
        members = {
            "id": random.choice(['"1"', '"00000000-0000-0000-0000-000000000001"', "7", "null"]),
            "query_type": _value(random),
            "execution_time_ms": random.choice([*_NUMBERS, '"12"', "null", "[]"]),
            "cache_hit": random.choice(["true", "false", '"true"', "1", "null"]),
            "timestamp": random.choice(['"2026-03-29T12:00:00Z"', '"never"', "null", "0"]),
        }
        kept = random.sample(sorted(members), k=random.randint(0, len(members)))
        record = "{" + ", ".join(f'"{name}": {members[name]}' for name in kept) + "}"
        elements.append(random.choice([record, record, record, _value(random)]))
    return f"[{', '.join(elements)}]"
