"""Every question in its order, each on its own: one that fails is a finding itself."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import namedtuple_row

from fiml.sessions.health import _archival, _roles, _server, _source, _warehouse
from fiml.sessions.health._asking import Connection, Question, first_line
from fiml.sessions.health._findings import Finding, Limits, Severity, is_healthy
from fiml.settings import Settings

__all__ = ["examine"]

_SECONDS_FOR_A_QUERY: Final = 15
_QUESTIONS: Final[dict[str, Question]] = {
    "triggers": _source.triggers,
    "roles": _roles.roles,
    "build": _warehouse.builds,
    "serving": _warehouse.serving,
    "feed": _warehouse.feed,
    "archival": _archival.archival,
    "quarantine": _archival.quarantine,
    "sessions": _source.expiry,
    "metrics": _source.freshness,
}


async def examine(settings: Settings, limits: Limits | None = None) -> list[Finding]:
    """Look at everything, from the server to the freshness of the figures; change nothing.

    A finding that makes the later questions pointless (no server, not migrated) is the last one.
    A question that fails is a finding itself; no exception for what is wrong with the database.
    """
    conninfo = make_conninfo(
        settings.conninfo,
        application_name="session-analytics doctor",
        connect_timeout=max(2, int(settings.timeout_seconds)),
    )
    try:
        connection = await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, row_factory=namedtuple_row
        )
    except psycopg.Error as error:
        return [_server.no_connection(error)]
    async with connection:
        try:
            return await _examine(connection, settings, limits or Limits())
        except psycopg.Error as error:
            return [_failed_question("installation", error)]


async def _examine(connection: Connection, settings: Settings, limits: Limits) -> list[Finding]:
    await connection.execute(
        "select set_config('statement_timeout', %s, false) as timeout, "
        "set_config('TimeZone', 'UTC', false) as zone",
        [f"{_SECONDS_FOR_A_QUERY}s"],
    )
    info = connection.info
    shown = info.parameter_status("server_version") or str(info.server_version)
    findings = [_server.server(info.server_version, shown, info.dbname)]
    if is_healthy(findings):
        findings.append(await _server.installation(connection, settings))
    if not is_healthy(findings):
        return findings
    for name, question in _QUESTIONS.items():
        try:
            findings += await question(connection, settings, limits)
        except psycopg.Error as error:
            findings.append(_failed_question(name, error))
    return findings


def _failed_question(name: str, error: psycopg.Error) -> Finding:
    remedy = (
        "Run this as the owner of the database."
        if isinstance(error, psycopg.errors.InsufficientPrivilege)
        else "Repair what PostgreSQL names here, then look again."
    )
    return Finding(
        f"{name}.unknown",
        Severity.ERROR,
        f"{name} could not be examined",
        first_line(error),
        remedy,
    )
