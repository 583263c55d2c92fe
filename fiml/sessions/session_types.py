"""The session types that are known. A module of its own, so that reading needs no pydantic."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum

from fiml.errors import UnknownSessionTypeError
from fiml.sessions._arguments import shown

__all__ = ["SessionType", "check_session_type"]


class SessionType(StrEnum):
    """What a session is about."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    PORTFOLIO = "portfolio"
    COMPARATIVE = "comparative"
    MACRO = "macro"


def check_session_type(session_type: object) -> SessionType:
    """Return the type that a member, or its value, stands for.

    Raises:
        UnknownSessionTypeError: it is none of the known ones; the message lists them.
    """
    # Text alone: the enumeration would compare, and repeat, whatever it is given.
    if isinstance(session_type, str):
        with suppress(ValueError):
            return SessionType(session_type)
    raise UnknownSessionTypeError(
        f"session_type is {shown(session_type)}; expected one of {', '.join(SessionType)}"
    )
