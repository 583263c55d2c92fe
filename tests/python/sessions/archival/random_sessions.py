"""Sessions with any history that a column can hold, of a seed."""

import random
from uuid import uuid4

from sessions.examples import Connection

__all__ = ["add_random_sessions"]


def random_history(rng: random.Random) -> str:
    def figure() -> str:
        return rng.choice(
            [
                "12",
                "0",
                "0.0005",
                "3.1415926",
                str(rng.randrange(10**9)),
                f"{rng.random():.6f}",
                "-5",
                "1e15",
                "1000000000000001",
                "9e130000",
                "1e-400",
                '"12"',
                "null",
                "true",
                "[]",
            ]
        )

    def element() -> str:
        odd = ["5", "null", "true", '"text"', "[]", '[{"query_type": "price"}]', "{}"]
        if rng.random() < 0.15:
            return rng.choice(odd)
        kinds = ['"price"', '"news"', '"é"', '""', f'"{"x" * 255}"', f'"{"x" * 256}"', "5", "null"]
        members = {
            "query_type": rng.choice(kinds),
            "execution_time_ms": figure(),
            "cache_hit": rng.choice(["true", "false", "null", '"true"', "1"]),
        }
        kept = [f'"{name}": {text}' for name, text in members.items() if rng.random() < 0.9]
        return f"{{{', '.join(kept)}}}"

    if rng.random() < 0.1:
        return rng.choice(["{}", "null", "5", '"text"', '{"query_type": "price"}'])
    return f"[{', '.join(element() for _ in range(rng.randrange(8)))}]"


def add_random_sessions(database: Connection, count: int, seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        (
            uuid4(),
            rng.choice(["analyst", None, "", "é"]),
            rng.choice(["equity", "macro", "astrology", ""]),
            rng.choice(['["AAPL", "AAPL"]', "[]", "null", "{}", '[1, null, ""]', '"AAPL"']),
            rng.choice(['["a", "b"]', "[]", '"a"', "{}", "[5]"]),
            rng.choice(
                [
                    *("2024-05-01", "2024-05-01 12:00:00.999999", "-infinity", "infinity"),
                    *("4000-01-01 BC", "2999-01-01"),
                ]
            ),
            rng.choice(
                [
                    *("2024-05-01 12:00:01", "2024-05-02", "-infinity", "2000-01-01"),
                    *("2024-06-01", None, "infinity", "2999-01-01", "4000-01-01 BC"),
                ]
            ),
            random_history(rng),
            rng.choice([0, 0, 0, 1, 5, -7, 2**31 - 1, -(2**31)]),
        )
        for _ in range(count)
    ]
    with database.cursor() as cursor:
        cursor.executemany(
            "insert into sessions (id, user_id, type, assets, tags, created_at, expires_at,"
            " query_history, total_queries) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
