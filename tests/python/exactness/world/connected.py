"""Everybody who is connected to one database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg

from fiml.sessions.serving import ServingCache
from fiml.warehouse.project import Mart

__all__ = ["WRITERS", "Connected"]

WRITERS = 3
# A writer that would wait for another one's transaction is refused and rolls back: it is the same
# thread that would have to end the other one.
SETTINGS = (
    "-c lock_timeout=20ms -c jit=off -c synchronous_commit=off -c analytics.facts_of_a_range=2"
)
# What a server has for everybody: one in which not every day has 24 hours, nor every hour whole
# ones beside it. It is nothing to the figures.
ZONE = " -c TimeZone=Australia/Lord_Howe"


class Connected:
    """Connections to one database, and what is remembered of it."""

    def __init__(self, conninfo: str, marts: Sequence[Mart]) -> None:
        self.conninfo = conninfo
        self.marts = {mart.name: mart for mart in marts}
        self.loop = asyncio.new_event_loop()
        self.connect()
        self.cache = ServingCache()
        # How many answers each path gave.
        self.paths: Counter[str] = Counter()
        self.windows: list[str] = []
        # Snapshots, each with the sessions that were open in it.
        self.openings: list[tuple[str, list[tuple[Any, ...]]]] = []

    def connect(self) -> None:
        self.writers = [
            psycopg.connect(self.conninfo, autocommit=True, options=SETTINGS + ZONE)
            for _ in range(WRITERS)
        ]
        # Each fold is planned once for all histories.
        self.builder = psycopg.connect(
            self.conninfo, autocommit=True, prepare_threshold=0, options=SETTINGS + ZONE
        )
        self.oracle = psycopg.connect(
            self.conninfo, autocommit=True, options=SETTINGS + " -c TimeZone=UTC"
        )
        self.reader: psycopg.AsyncConnection[Any] = self.loop.run_until_complete(
            psycopg.AsyncConnection.connect(
                self.conninfo,
                autocommit=True,
                prepare_threshold=0,
                options=SETTINGS + ZONE + " -c plan_cache_mode=force_generic_plan",
            )
        )

    def disconnect(self) -> None:
        for connection in (*self.writers, self.builder, self.oracle):
            connection.close()
        self.loop.run_until_complete(self.reader.close())

    def close(self) -> None:
        self.disconnect()
        self.loop.close()
