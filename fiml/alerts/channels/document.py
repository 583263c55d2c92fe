"""An episode as the JSON that the log and webhooks carry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from fiml.alerts.notices import Notice

__all__ = ["alert_document", "alert_title"]


def alert_title(notice: Notice) -> str:
    """Whether it fired or is over, and which rule."""
    state = notice.severity if notice.kind == "fired" else "over"
    return f"[{state}] {notice.rule_name}"


def alert_document(notice: Notice) -> str:
    """The notice in ASCII, in one line.

    `text` is a title and a sentence, which chat services show.
    """
    message = notice.message if notice.kind == "fired" else notice.over_message
    document = {
        "event": notice.kind,
        "episode_id": str(notice.episode_id),
        "rule": notice.rule_name,
        "description": notice.description,
        "severity": notice.severity,
        "figure": notice.figure,
        "comparison": notice.comparison,
        "threshold": _number(notice.threshold),
        "window_hours": notice.window_hours,
        "session_type": notice.session_type,
        "user_key": str(notice.user_key) if notice.user_key else None,
        "value": _number(notice.value),
        "sessions": notice.sessions,
        "fired_at": _instant(notice.fired_at),
        "over_at": _instant(notice.over_at) if notice.kind == "over" else None,
        "ending": notice.ending if notice.kind == "over" else None,
        "message": message,
        "text": f"{alert_title(notice)}: {message}",
    }
    return json.dumps(document)


def _number(value: Decimal | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
