"""JSON schemas of the tool `get-session-analytics`, as a client and its model see them."""

from __future__ import annotations

from typing import Any, Final

from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.sessions.analytics import MAX_DAYS
from fiml.sessions.models import SessionType

__all__ = ["INPUT_SCHEMA", "NETWORK_INPUT_SCHEMA", "OUTPUT_SCHEMA"]

_SESSION_TYPES: Final = [known.value for known in SessionType]

INPUT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "GetSessionAnalyticsArguments",
    "properties": {
        "userId": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": 255,
            "default": None,
            "description": (
                "Exact id of one user. Leave it out, or pass null, for the whole platform; "
                "sessions without a user count only there."
            ),
        },
        "sessionType": {
            "type": ["string", "null"],
            "enum": [*_SESSION_TYPES, None],
            "default": None,
            "description": (
                "Only sessions of this type. Leave it out, or pass null, for every type."
            ),
        },
        "days": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_DAYS,
            "default": 30,
            "description": "Length of the window that ends now, in days of 24 hours.",
        },
    },
    "additionalProperties": False,
}

NETWORK_INPUT_SCHEMA: Final[dict[str, Any]] = {
    **INPUT_SCHEMA,
    "properties": {
        **INPUT_SCHEMA["properties"],
        "userId": {
            **INPUT_SCHEMA["properties"]["userId"],
            "description": (
                "Exact id of one user; anybody's but your own needs the scope "
                f"{USERS_SCOPE}. Leave it out, or pass null, for the whole platform where you "
                f"have the scope {PLATFORM_SCOPE}, and for yourself where you have not; the "
                "answer's user_id says which it was."
            ),
        },
    },
}


def _figure(kind: str, description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "minimum": 0, "description": description, **more}


def _counts(description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 1},
        "description": description,
    }


def _top_ten(name: str, description: str) -> dict[str, Any]:
    return {
        "type": "array",
        "maxItems": 10,
        "items": {
            "type": "object",
            "properties": {
                name: {"type": "string"},
                "count": {"type": "integer", "minimum": 1},
            },
            "required": [name, "count"],
            "additionalProperties": False,
        },
        "description": description,
    }


_FIGURES: Final[dict[str, Any]] = {
    "status": {"type": "string", "const": "success", "description": "Failures are error results."},
    "total_sessions": _figure(
        "integer", "Sessions that began in the window and have recorded metrics."
    ),
    "active_sessions": _figure(
        "integer", "Sessions running now: neither archived nor expired. Not limited to the window."
    ),
    "archived_sessions": _figure("integer", "Sessions archived in the window."),
    "total_queries": _figure("integer", "Queries of the total_sessions."),
    "avg_duration_seconds": _figure(
        "number", "Mean time from a session's creation to its end, in seconds."
    ),
    "avg_queries_per_session": _figure("number", "total_queries / total_sessions."),
    "abandonment_rate": _figure(
        "number",
        "Fraction, 0 to 1, of the total_sessions that expired with fewer than 2 queries.",
        maximum=1,
    ),
    "period_days": _figure("integer", "The argument days.", minimum=1, maximum=MAX_DAYS),
    "user_id": {
        "type": ["string", "null"],
        "description": "Whose figures these are; null for all.",
    },
    "session_type": {
        "type": ["string", "null"],
        "enum": [*_SESSION_TYPES, None],
        "description": "The argument sessionType.",
    },
    "top_assets": _top_ten("symbol", "The 10 most analysed symbols, most frequent first."),
    "query_type_distribution": _counts("Queries by query type, most frequent first."),
    "session_type_breakdown": _counts("The total_sessions by session type, most frequent first."),
    "popular_tags": _top_ten("tag", "The 10 most used tags, most frequent first."),
}

OUTPUT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "SessionAnalytics",
    "properties": {
        **_FIGURES,
        "message": {
            "type": "string",
            "description": "There exactly when total_sessions is 0: nothing was recorded yet.",
        },
    },
    "required": list(_FIGURES),
    "additionalProperties": False,
}
