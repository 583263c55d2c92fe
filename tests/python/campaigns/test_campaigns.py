"""A short version of every campaign, each round with a seed that no run repeats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaigns import archivers, soak
from campaigns.campaign import play_round
from campaigns.ground import Ground, Server
from campaigns.registry import CAMPAIGNS
from campaigns.report import BEGIN, END, table
from psycopg.conninfo import conninfo_to_dict
from spreading import spread

from fiml.local_server import remove_local_server
from fiml.settings import Settings
from fiml.warehouse.project import load_marts

Mistake = Callable[[psycopg.Connection[Any], pytest.MonkeyPatch], None]

DAYS = {"build-killed": 5, "builds-overlapping": 5, "readers-concurrent": 2, "soak": 3}
ROUNDS = [
    parameters
    for name, campaign in CAMPAIGNS.items()
    for parameters in spread(
        [(name, number) for number in range(campaign.short)],
        # Of what takes its time, a part each day.
        DAYS.get(name, 1),
        lambda played: f"{played[0]}-{played[1]}",
    )
]
# Xdist's workers must agree on the tests, so the seed is no part of their names.
SEED = int.from_bytes(os.urandom(4))
# By far more than the worst of them needs.
ROUNDS_TO_FIND_IT = 10
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def ground(
    server: Any, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("campaigns")
    made = Ground(
        lambda: server.conninfo(server.create_database(migrated_template)),
        lambda conninfo: server.drop_database(conninfo_to_dict(conninfo)["dbname"]),
        load_marts(Settings.from_environment()),
        folder,
    )
    yield made
    made.close()
    for name in ("durable", soak.NAME):
        remove_local_server(folder / name)


@pytest.mark.parametrize(("name", "number"), ROUNDS)
def test_nothing_is_lost(ground: Ground, name: str, number: int) -> None:
    if not CAMPAIGNS[name].is_possible():
        # A disk that runs full is a mount of one's own, which root alone can make.
        pytest.skip("this account cannot do that to a machine")
    play_round(CAMPAIGNS[name], ground, SEED, number, is_short=True)


def _replaced(function: str, old: str, new: str) -> Mistake:
    def make(connection: psycopg.Connection[Any], _: pytest.MonkeyPatch) -> None:
        row = connection.execute(
            "select pg_get_functiondef(%s::regprocedure)", [function]
        ).fetchone()
        assert row is not None
        assert old in row[0]
        connection.execute(row[0].replace(old, new))

    return make


def _without_a_trigger(connection: psycopg.Connection[Any], _: pytest.MonkeyPatch) -> None:
    connection.execute("alter table sessions disable trigger analytics_log_update")


def _in_two_transactions(_: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    careless = """
            "update sessions set is_archived = true, archived_at = now() where not is_archived",
            "select analytics.write_metrics(array_agg(sessions)) from sessions where is_archived",
    """
    text = archivers.ARCHIVER
    whole = text[text.index("await archive_expired(") : text.index("asyncio.run")]
    monkeypatch.setattr(
        archivers,
        "ARCHIVER",
        text.replace(
            whole,
            f"for statement in ({careless}):\n"
            "            await database.run(lambda connection: connection.execute(statement))\n\n",
        ),
    )


LOCKED = "analytics.archive_locked(uuid[])"
WRITE = "perform analytics.write_metrics(archived);"
MISTAKES = {
    "an archiver that commits between sessions and metrics": (
        "archiver-killed-between-steps",
        _in_two_transactions,
    ),
    "an archival that forgets metrics now and then": (
        "archiver-crowd",
        _replaced(
            "analytics.archive_locked(uuid[])", WRITE, f"if random() > 0.2 then {WRITE} end if;"
        ),
    ),
    "an archival that writes metrics twice": (
        "archiver-crowd",
        _replaced(LOCKED, WRITE, f"{WRITE} {WRITE}"),
    ),
    "a feed that hears nothing of archivals": ("archiver-killed", _without_a_trigger),
    "a fold that takes for folded what came while it was at work": (
        "backends-terminated",
        _replaced(
            "analytics.end_fold(text)",
            "current_setting('analytics.fold_upper')::pg_snapshot",
            "pg_current_snapshot()",
        ),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_campaign_finds_a_mistake(
    ground: Ground, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make = MISTAKES[mistake]

    def make_database() -> str:
        conninfo = ground.make_database()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            make(connection, monkeypatch)
        return conninfo

    mistaken = replace(ground, make_database=make_database)
    with pytest.raises(AssertionError):
        _play_rounds(name, mistaken)


def _play_rounds(name: str, ground: Ground) -> None:
    for number in range(ROUNDS_TO_FIND_IT):
        play_round(CAMPAIGNS[name], ground, SEED, number)


@pytest.mark.long
def test_the_soak_finds_what_grows(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that nobody prunes, and a table that is full of rows that are gone."""
    make = Server.make

    def make_leaking(server: Server) -> str:
        conninfo = make(server)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                """
                create or replace function
                analytics.prune_changes(grace interval default '30 minutes')
                returns bigint return 0;
                alter table analytics.quarantine set (autovacuum_enabled = false);
                insert into analytics.quarantine (fact, session_id, reason, source_row)
                select 'metrics', gen_random_uuid(), repeat('x', 200), '{}'
                from generate_series(1, 150000);
                delete from analytics.quarantine;
                """
            )
        return conninfo

    monkeypatch.setattr(Server, "make", make_leaking)
    ground.forget(soak.NAME)
    with pytest.raises(AssertionError) as found:
        play_round(CAMPAIGNS[soak.NAME], ground, SEED, 0, is_short=True)
    assert "rows of the feed that stay" in str(found.value)
    assert "bloat of analytics.quarantine" in str(found.value)


def test_the_page_says_what_the_results_say() -> None:
    page = (DOCS / "reliability.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == table(DOCS / "reliability")
