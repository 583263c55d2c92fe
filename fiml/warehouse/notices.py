"""The notification that new rows were found, for whoever shows figures as they change.

Sent by whoever folds, and by no trigger: of transactions that notify, PostgreSQL lets one commit at
a time, in all databases of a server (docs/decisions/0011-live-updates.md has the figures).
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

__all__ = ["CHANNEL", "notify"]

CHANNEL: Final = "session_analytics_changes"


def notify(connection: psycopg.Connection[Any]) -> None:
    """Send the notification; of several in one transaction, one is delivered."""
    connection.execute("select pg_notify(%s, '')", [CHANNEL], prepare=True)
