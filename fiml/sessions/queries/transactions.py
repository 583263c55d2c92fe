"""What frames the questions, and the one statement that writes."""

from __future__ import annotations

from typing import Final

__all__ = ["BEGIN", "CLOCK", "COMMIT", "RECORD"]

# One snapshot for all statements of one answer; transaction_timestamp() is the same in each.
BEGIN: Final = "begin isolation level repeatable read read only"
COMMIT: Final = "commit"
CLOCK: Final = "select transaction_timestamp()"

RECORD: Final = "select analytics.record_session_metrics(%s, %s::jsonb)"
