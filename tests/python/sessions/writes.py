"""Every write of a metrics row, kept: in the end each session has one."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import psycopg

__all__ = ["count_metrics_writes", "metrics_writes"]


def count_metrics_writes(connection: psycopg.Connection[Any]) -> None:
    """From now on, whoever writes them."""
    connection.execute(
        """
        create table metrics_writes (session_id uuid not null);
        create function count_metrics_write() returns trigger language plpgsql security definer as
        $$ begin insert into metrics_writes values (new.session_id); return new; end $$;
        create trigger count_metrics_write after insert or update on session_metrics
        for each row execute function count_metrics_write();
        """
    )


def metrics_writes(connection: psycopg.Connection[Any]) -> Counter[UUID]:
    """How often the metrics of each session were written."""
    rows = connection.execute("select session_id from metrics_writes").fetchall()
    return Counter(row[0] for row in rows)
