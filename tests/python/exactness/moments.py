"""Moments around which tests write and read, and steps between them."""

from datetime import UTC, datetime, timedelta

__all__ = ["DAY", "HOUR", "MICROSECOND", "MIDNIGHT", "NOON"]

MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# Of a fixed day: reads take their `as_of` near it, writes theirs around it.
NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
MIDNIGHT = NOON - timedelta(hours=12)
