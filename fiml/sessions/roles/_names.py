"""What the roles of an installation are for, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Final

from fiml.errors import RoleError

__all__ = ["SETTINGS_OF_LOGINS", "Purpose", "default_prefix", "role_names"]


class Purpose(StrEnum):
    """What a role is for."""

    OWNER = "owner"
    APP = "app"
    BUILDER = "builder"
    READER = "reader"
    BI = "bi"


# PostgreSQL takes these from the role that logs in, and from no group that it is a member of.
SETTINGS_OF_LOGINS: Final[Mapping[Purpose, Mapping[str, str]]] = {
    Purpose.OWNER: {},
    Purpose.APP: {
        "lock_timeout": "30s",
        "statement_timeout": "5min",
        "idle_in_transaction_session_timeout": "1min",
    },
    Purpose.BUILDER: {
        "default_transaction_isolation": "read committed",
        "jit": "off",
        # A build that is killed leaves no statement and no lock behind.
        "client_connection_check_interval": "1s",
        # A build may have to wait for a rebuild of the same mart.
        "lock_timeout": "30min",
        "statement_timeout": "6h",
        "idle_in_transaction_session_timeout": "5min",
    },
    Purpose.READER: {
        "default_transaction_read_only": "on",
        "jit": "off",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
    },
    Purpose.BI: {
        "default_transaction_read_only": "on",
        "statement_timeout": "10min",
        "idle_in_transaction_session_timeout": "10min",
    },
}

_LONGEST_PREFIX: Final = 63 - max(map(len, Purpose))


def default_prefix(database: str) -> str:
    """What the names of a database's roles begin with, unless an operator says otherwise.

    The database's name, so that two installations in one cluster never share a role. One that is
    too long for that, or that PostgreSQL reserves, is digested.
    """
    prefix = f"{database}_analytics_"
    if len(prefix.encode()) > _LONGEST_PREFIX or prefix.startswith("pg_"):
        return f"session_analytics_{sha256(database.encode()).hexdigest()[:16]}_"
    return prefix


def role_names(database: str, prefix: str = "") -> dict[Purpose, str]:
    """The names of the roles of an installation; an empty prefix is the database's own.

    Raises:
        RoleError: no role can have a name that begins so.
    """
    begin = prefix or default_prefix(database)
    if len(begin.encode()) > _LONGEST_PREFIX or begin.startswith("pg_"):
        raise RoleError(
            f"no role's name can begin with {begin!r}: SESSION_ANALYTICS_ROLE_PREFIX has at most "
            f"{_LONGEST_PREFIX} bytes and does not begin with pg_"
        )
    return {purpose: f"{begin}{purpose}" for purpose in Purpose}
