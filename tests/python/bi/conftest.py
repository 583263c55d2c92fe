"""An installation with a history of months, built, and a login for BI."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from roles.installation import Installation, drop_roles, installed
from warehouse.application import record_metrics

from fiml.demo.history import generate, load
from fiml.sessions.roles import Purpose
from fiml.warehouse.builds import build

SESSIONS = 3_000


@pytest.fixture(scope="session")
def installation(server: Any) -> Iterator[Installation]:
    name = server.create_database()
    try:
        with installed(server.conninfo(name)) as made:
            with made.connected() as database:
                load(database, generate(datetime.now(UTC), sessions=SESSIONS))
                # Values that do not count, a type that nobody knows, and clocks that were wrong.
                record_metrics(database, 120, days_ago=2)
                record_metrics(database, 30, days_ago=40)
                database.execute(
                    "update session_metrics set session_type = 'Equity' "
                    "where session_type = 'equity' and total_queries = 3 "
                    "and assets_analyzed @> '[\"A0\"]'"
                )
                for day in ("1999-06-15", "2199-06-15"):
                    database.execute(
                        """
                        insert into session_metrics (
                            session_id, user_id, session_type, created_at, duration_seconds
                        )
                        values (gen_random_uuid(), 'user 1', 'crypto', %s, 60)
                        """,
                        [f"{day} 23:30+00"],
                    )
            build(made.settings(Purpose.BUILDER))
            yield made
    finally:
        server.drop_database(name)
        with psycopg.connect(server.maintenance_conninfo, autocommit=True) as connection:
            drop_roles(connection, name)
