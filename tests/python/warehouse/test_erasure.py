"""What is left of a person who was erased: nothing, anywhere in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from exactness.world import World
from psycopg import sql
from warehouse.application import Connection, mart_rows, one

from fiml.database import Database
from fiml.sessions.maintenance import erase_user, erasure_receipt
from fiml.sessions.serving import Keys
from fiml.settings import Settings
from fiml.warehouse.erasure import fold_erasures
from fiml.warehouse.fold import fold
from fiml.warehouse.project import load_marts

pytestmark = pytest.mark.anyio

HER = "her.id@example.org"
HERS = "a name that only she had"
RECORD = """
insert into session_metrics (
    session_id, user_id, session_type, created_at, duration_seconds, total_queries,
    assets_analyzed, query_type_summary, tags
)
select
    gen_random_uuid(), %(user)s, 'equity', now() - number * interval '7 hours', 60, 3,
    jsonb_build_array('AAPL', %(name)s::text), jsonb_build_object('price', 1, %(name)s::text, 2),
    jsonb_build_array('shared', %(name)s::text)
from generate_series(1, %(rows)s) as number
"""
START = """
insert into sessions (id, user_id, type, assets, tags, created_at, expires_at)
values (gen_random_uuid(), %(user)s, 'macro', jsonb_build_array(%(name)s::text), '[]', now(),
    now() + interval '1 hour')
"""


def _record(connection: Connection, user: str | None, name: str, rows: int) -> None:
    connection.execute(RECORD, {"user": user, "name": name, "rows": rows})
    connection.execute(START, {"user": user, "name": name})


def _fold(settings: Settings, connection: Connection, run_id: str) -> None:
    fold(connection, load_marts(settings), run_id)


def _everything(connection: Connection) -> str:
    """Every row of every table of the database's own, as text."""
    tables = connection.execute(
        "select schemaname, tablename from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema')"
    ).fetchall()
    return "\n".join(
        str(
            connection.execute(
                sql.SQL("select coalesce(string_agg(rows::text, ' '), '') from {} as rows").format(
                    sql.Identifier(*table)
                )
            ).fetchone()
        )
        for table in tables
    )


@pytest.mark.parametrize("is_heavy", [False, True])
async def test_after_an_erasure_no_table_has_the_user_or_a_name_of_theirs(
    settings: Settings, database: Connection, is_heavy: bool
) -> None:
    if is_heavy:
        database.execute("select analytics.set_serving_layout(heavy_user_sessions => 3)")
    _record(database, "bob", "his", 9)
    _fold(settings, database, "before her")
    without_her = mart_rows(database)
    _record(database, HER, HERS, 9)
    _fold(settings, database, "with her")
    assert (
        one(database, "select count(*) from serving.scopes where user_key is not null") > 0
    ) is (is_heavy)
    assert HER in _everything(database)
    assert HERS in _everything(database)
    async with Database(settings) as pool:
        assert await erase_user(pool, HER) == 10
        before = await erasure_receipt(pool, HER)
        assert before["marts.daily_user_stats"] > 0
        assert fold_erasures(settings)
        receipt = await erasure_receipt(pool, HER)
    assert receipt.keys() == before.keys()
    assert set(receipt.values()) == {0}
    assert HER not in _everything(database)
    assert HERS not in _everything(database)
    # And of the others nothing is gone.
    assert mart_rows(database) == without_her
    assert "his" in {row[0] for row in database.execute("select name from serving.keys").fetchall()}
    with pytest.raises(psycopg.Error, match="was erased"):
        _record(database, HER, HERS, 1)


async def test_what_cannot_be_folded_now_is_finished_by_the_next_build(
    settings: Settings, database: Connection
) -> None:
    _record(database, HER, HERS, 3)
    async with Database(settings) as pool:
        await erase_user(pool, HER)
        # No mart was ever built.
        assert not fold_erasures(settings)
        assert (await erasure_receipt(pool, HER))["names of their own"] == 1
        _fold(settings, database, "the first build")
        database.execute("select analytics.prune_changes()")
        assert set((await erasure_receipt(pool, HER)).values()) == {0}
        # Once more finds nothing, and nothing to do.
        assert await erase_user(pool, HER) == 0
        assert fold_erasures(settings)
        assert set((await erasure_receipt(pool, HER)).values()) == {0}


def test_while_somebody_folds_it_is_left_to_them(settings: Settings, database: Connection) -> None:
    _record(database, HER, HERS, 3)
    _fold(settings, database, "first")
    database.execute("select analytics.erase_user(%s)", [HER])
    with psycopg.connect(settings.conninfo) as folding:
        folding.execute("select from analytics.watermarks where mart = 'session_totals' for update")
        assert not fold_erasures(settings)
    assert fold_erasures(settings)


def test_a_name_that_comes_back_counts_again(settings: Settings, database: Connection) -> None:
    _record(database, HER, HERS, 3)
    _fold(settings, database, "first")
    database.execute("select analytics.erase_user(%s)", [HER])
    assert fold_erasures(settings)
    _record(database, "bob", HERS, 2)
    _fold(settings, database, "again")
    counted = "select sum(n) from serving.decoded_totals where scope is null and name = %s"
    assert one(database, counted + " and level = 'day' and kind = 'asset'", HERS) == 2


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    world = World(settings.conninfo, load_marts(settings))
    yield world
    world.close()


def test_a_reader_that_looks_names_up_too_late_answers_from_elsewhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _record(world.builder, HER, HERS, 3)
    world.build()
    learn: Callable[..., Any] = Keys.fetch
    with psycopg.connect(world.conninfo, autocommit=True) as other:

        async def learn_late(keys: Keys, connection: Any) -> None:
            other.execute("select analytics.erase_user(%s)", [HER])
            world.build()
            world.prune()
            async with await psycopg.AsyncConnection.connect(
                world.conninfo, autocommit=True
            ) as later:
                await learn(keys, later)

        monkeypatch.setattr(Keys, "fetch", learn_late)
        # In the snapshot of a read that began before she was erased.
        world.loop.run_until_complete(world.reader.execute("begin isolation level repeatable read"))
        found = world.read(include_meta=True)
        world.loop.run_until_complete(world.reader.rollback())
    assert found["meta"]["path"] == "marts"
    assert {"symbol": HERS, "count": 3} in found["top_assets"]
    assert world.read(include_meta=True)["total_sessions"] == 0
