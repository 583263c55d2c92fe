"""The same rows give the same bytes, whatever version, locale and time zone a server has."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from exactness.world import World
from psycopg import sql
from warehouse.application import mart_rows

from fiml.local_server import LocalServer
from fiml.sessions.migrations import migrate
from fiml.settings import Settings
from fiml.warehouse.project import load_marts

# A day on which clocks change in Europe, and the days around it.
AS_OF = datetime(2026, 3, 29, 12, tzinfo=UTC)
# Where sorting by a language's rules, case or accents would show.
NAMES = [
    "a",
    "B",
    "b",
    "Z",
    "_",
    "é",
    "e\u0301",
    "ä",
    "z",
    "Ω",
    "ß",
    "ss",
    "İ",
    "i",
    "1",
    "10",
    "2",
]
ICU = ["locale_provider icu icu_locale 'sv-SE'", "locale_provider icu icu_locale 'tr-TR'"]
# Of PostgreSQL 18, which may come without ICU.
BUILTIN = ["locale_provider builtin builtin_locale 'PG_UNICODE_FAST'"]
RECORD = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags
)
select
    lpad(to_hex(number), 32, '0')::uuid,
    (array['ann', 'Ann', 'änn'])[1 + number % 3],
    (array['equity', 'Equity', 'équity', 'crypto'])[1 + number % 4],
    timestamptz '2026-03-31 00:00+00' - number * interval '37 minutes' - interval '1 microsecond',
    number, number % 5,
    jsonb_build_array((%(names)s::text[])[1 + number % 17], (%(names)s::text[])[1 + number % 5]),
    jsonb_build_object((%(names)s::text[])[1 + number % 17], 1 + number % 3),
    jsonb_build_array((%(names)s::text[])[1 + number % 13])
from generate_series(1, 400) as number
"""
SESSIONS = """
insert into sessions (id, user_id, type, created_at, expires_at, is_archived, archived_at)
select
    lpad(to_hex(number), 32, '0')::uuid, 'ann', 'equity', timestamptz '2026-03-28 10:00+00',
    timestamptz '2026-03-29 23:30:00+00' - number * interval '1 hour', number % 3 = 0,
    timestamptz '2026-03-29 01:59:59.999999+00' - number * interval '1 hour'
from generate_series(1, 40) as number
"""


def answers(conninfo: str) -> str:
    """Every figure by every path, and every row of every mart, as text."""
    migrate(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(RECORD.replace(" % ", " %% "), {"names": NAMES})
        connection.execute(SESSIONS)
    world = World(conninfo, load_marts(Settings.from_environment()))
    try:
        found: list[Any] = []
        for _ in range(2):
            for user_id, session_type, days in (
                (None, None, 1),
                (None, None, 30),
                (None, "equity", 2),
                ("ann", None, 7),
                ("änn", "équity", 7),
            ):
                question: dict[str, Any] = {
                    "user_id": user_id,
                    "session_type": session_type,
                    "days": days,
                    "as_of": AS_OF,
                }
                world.check(**question)
                found.append(world.read(**question))
            world.build()
        # PostgreSQL would order them by the rules of the locale.
        rows = {mart: sorted(rows, key=repr) for mart, rows in mart_rows(world.builder).items()}
        return json.dumps(found, ensure_ascii=False) + repr(rows)
    finally:
        world.close()


@pytest.fixture
def make(start_server: Callable[..., LocalServer], sources: list[str]) -> Callable[[], list[str]]:
    """Databases of each version and locale, the first one plain: their conninfos."""

    def make_all() -> list[str]:
        made = []
        for source in sources:
            server = start_server(source)
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                has_icu = connection.execute(
                    "select exists (select from pg_collation where collname like '%-x-icu')"
                ).fetchone()
                rules = ["", *(ICU if has_icu == (True,) else BUILTIN)]
                for number, rule in enumerate(rules):
                    name = f"rules_{number}"
                    connection.execute(
                        sql.SQL("create database {} template template0 {}").format(
                            sql.Identifier(name),
                            sql.SQL(rule),  # type: ignore[arg-type]
                        )
                    )
                    made.append(server.conninfo(name))
        return made

    return make_all


@pytest.mark.timeout(600)
def test_version_and_locale_change_no_byte(make: Callable[[], list[str]]) -> None:
    plain, *others = make()
    expected = answers(plain)
    assert "équity" in expected
    for conninfo in others:
        assert answers(conninfo) == expected


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns", "Europe/Berlin"])
def test_no_time_zone_changes_a_byte(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    expected = answers(make_database())
    conninfo = make_database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            sql.SQL("alter database {} set timezone = {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(zone)
            )
        )
    monkeypatch.setenv("PGTZ", zone)
    monkeypatch.setenv("TZ", zone)
    assert answers(conninfo) == expected
