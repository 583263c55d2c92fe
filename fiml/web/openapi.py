"""The API, described: OpenAPI 3.1, from the schemas of answers and the limits of the library."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from typing import Any, Final

from fiml.identity.authorization import PLATFORM_SCOPE, USERS_SCOPE
from fiml.mcp._schemas import OUTPUT_SCHEMA
from fiml.sessions._arguments import MAX_DAYS, MAX_HOURS, MAX_NAME_LENGTH
from fiml.sessions.analytics import NO_METRICS_MESSAGE
from fiml.sessions.periods import MAX_PERIODS, Grain
from fiml.sessions.session_types import SessionType
from fiml.web.arguments import SERIES_PARAMETERS, STATS_PARAMETERS
from fiml.web.refusals import STATUSES

__all__ = ["openapi"]

_INSTANT: Final = {"type": "string", "format": "date-time"}
_WINDOW_KEYS: Final = {
    "since": {**_INSTANT, "description": "Where the window begins, UTC, inclusive."},
    "until": {**_INSTANT, "description": "Where it ends, UTC, exclusive."},
}
_PARAMETERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "user": (
        {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
        "Exact id of one user. Without it: the whole platform where the token has the scope "
        f"{PLATFORM_SCOPE}, and the caller where it has not. Other users need {USERS_SCOPE}.",
    ),
    "type": (
        {"type": "string", "enum": [known.value for known in SessionType]},
        "Only sessions of this type.",
    ),
    "days": (
        {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": 30},
        "Length of the window, in days of 24 hours.",
    ),
    "hours": (
        {"type": "integer", "minimum": 1, "maximum": MAX_HOURS},
        "The same in hours, in the place of days.",
    ),
    "since": (
        {"type": "string"},
        "Where the window begins, in the place of days: ISO 8601. A time without an offset is UTC; "
        "where there is a parameter timezone, it is local to that.",
    ),
    "until": (
        {"type": "string"},
        "Where it ends, exclusive, written as since; default: now. What is ahead ends now, too.",
    ),
    "meta": (
        {"type": "boolean", "default": False},
        "Also say how fresh the answer is and where it came from.",
    ),
    "grain": (
        {"type": "string", "enum": [grain.value for grain in Grain], "default": "day"},
        f"How long a period is. At most {MAX_PERIODS} periods.",
    ),
    "timezone": (
        {"type": "string", "default": "UTC"},
        "IANA name of the zone whose calendar the periods follow.",
    ),
    "fill": (
        {"type": "boolean", "default": True},
        "Also give periods in which nothing happened.",
    ),
}
_META: Final[dict[str, Any]] = {
    "type": "object",
    "description": "With meta=true: as_of, watermark, path, and how many rows were read where.",
}


def openapi(*, is_open: bool) -> dict[str, Any]:
    """The document.

    Args:
        is_open: whether nobody is asked for a token.
    """
    secured: dict[str, Any] = {} if is_open else {"security": [{"bearer": []}]}
    components: dict[str, Any] = {
        "schemas": {"Stats": _stats(), "Timeseries": _timeseries(), "Error": _error()}
    }
    if not is_open:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Session analytics",
            "version": version("session-analytics"),
            "description": "The figures of the library, exact at the instant of the call. "
            "A figure of zero means that nothing happened; failures are errors.",
        },
        "paths": {
            "/api/stats": _path(
                "The figures of a window", "Stats", STATS_PARAMETERS, "getStats", is_open=is_open
            ),
            "/api/timeseries": _path(
                "The figures of each calendar period of a window",
                "Timeseries",
                SERIES_PARAMETERS,
                "getTimeseries",
                is_open=is_open,
            ),
        },
        "components": components,
        **secured,
    }


def _path(
    summary: str, schema: str, parameters: tuple[str, ...], operation: str, *, is_open: bool
) -> dict[str, Any]:
    known = [_PARAMETERS[name] for name in parameters]
    left_out = {404, 405, *((401, 403, 429) if is_open else ())}
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": [
                {"name": name, "in": "query", "description": description, "schema": kind}
                for name, (kind, description) in zip(parameters, known, strict=True)
            ],
            "responses": {
                "200": _response("The documented dictionary.", schema),
                **{
                    str(status): _response(when, "Error")
                    for status, (_, when) in STATUSES.items()
                    if status not in left_out
                },
            },
        }
    }


def _response(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _stats() -> dict[str, Any]:
    schema = deepcopy(OUTPUT_SCHEMA)
    properties = schema["properties"]
    described: dict[str, dict[str, Any]] = {
        "status": {"description": "Always success: failures have a status of their own."},
        "active_sessions": {
            "type": ["integer", "null"],
            "description": "Sessions running now; null where the window, or the period, is over.",
        },
        "period_days": {
            "type": ["integer", "null"],
            "description": "The parameter days; null where the window is no number of days.",
        },
        "session_type": {"description": "The parameter type."},
    }
    for name, changes in described.items():
        properties[name] |= changes
    properties |= {**_WINDOW_KEYS, "meta": _META}
    schema["title"] = "Stats"
    return schema


def _timeseries() -> dict[str, Any]:
    figures = _stats()["properties"]
    left_out = {
        *("status", "period_days", "user_id", "session_type", "message", "meta"),
        *_WINDOW_KEYS,
    }
    of_period: dict[str, Any] = {
        "period_start": {**_INSTANT, "description": "In the zone, inclusive."},
        "period_end": {**_INSTANT, "description": "In the zone, exclusive."},
        "is_open": {"type": "boolean", "description": "It goes on."},
        "is_partial": {"type": "boolean", "description": "The window cuts it."},
        **{name: schema for name, schema in figures.items() if name not in left_out},
    }
    properties: dict[str, Any] = {
        "status": figures["status"],
        "grain": {
            "type": "string",
            "enum": [grain.value for grain in Grain],
            "description": "The parameter grain.",
        },
        "timezone": {"type": "string", "description": "The parameter timezone."},
        **_WINDOW_KEYS,
        "as_of": {**_INSTANT, "description": "The instant of the answer."},
        "user_id": figures["user_id"],
        "session_type": figures["session_type"],
        "periods": {
            "type": "array",
            "description": "Side by side, in the order of time; together they are the window.",
            "maxItems": MAX_PERIODS,
            "items": {
                "type": "object",
                "properties": of_period,
                "required": list(of_period),
                "additionalProperties": False,
            },
        },
    }
    return {
        "type": "object",
        "title": "Timeseries",
        "properties": {
            **properties,
            "message": {
                "type": "string",
                "const": NO_METRICS_MESSAGE,
                "description": "There exactly when no period has a session.",
            },
            "meta": _META,
        },
        "required": list(properties),
        "additionalProperties": False,
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "title": "Error",
        "properties": {
            "error": {
                "type": "object",
                "description": "code: a stable name; message: whole sentences.",
                "properties": {
                    "code": {"type": "string", "enum": [code for code, _ in STATUSES.values()]},
                    "message": {"type": "string", "description": "Whole sentences."},
                },
                "required": ["code", "message"],
                "additionalProperties": False,
            }
        },
        "required": ["error"],
        "additionalProperties": False,
    }
