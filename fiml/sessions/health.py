"""Finds what is wrong with an installation, and says what to do about it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import namedtuple_row

from fiml.sessions.migrations import MIGRATIONS
from fiml.settings import Settings

__all__ = ["Finding", "Limits", "Severity", "examine", "is_healthy"]

OLDEST_POSTGRESQL: Final = 15
_SECONDS_FOR_A_QUERY: Final = 15
# Counting stops here: "more than" is all that anyone needs to know.
_COUNTED_AT_MOST: Final = 1_000_000
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_MIGRATE: Final = "Run `session-analytics migrate`."
_BUILD: Final = "Run `session-analytics build`."
_TRIGGERS: Final = (
    "analytics_admit_user",
    "analytics_log_insert",
    "analytics_log_update",
    "analytics_log_delete",
    "analytics_refuse_truncate",
)

_Connection = psycopg.AsyncConnection[Any]


class Severity(StrEnum):
    """How bad a finding is: an error makes answers wrong or impossible, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        code: a stable name for programs, such as `build.stale`.
        severity: how bad it is.
        title: what it is, in a few words.
        detail: what was found, with figures.
        remedy: what to do; None where nothing is to be done.
    """

    code: str
    severity: Severity
    title: str
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is worth a warning.

    Attributes:
        feed_rows: rows of the change feed that no build has pruned.
        feed_bytes: the same in bytes, indexes included.
        unseen_rows: rows of the change feed that the serving layer has not folded.
        build_age: age of the oldest mart; None takes three periods of the schedule, at least 1 h.
        archival_delay: how long the oldest expired session may wait for its archival; None takes
            the same as `build_age`.
    """

    feed_rows: int = 500_000
    feed_bytes: int = 256 * 1024 * 1024
    unseen_rows: int = 10_000
    build_age: timedelta | None = None
    archival_delay: timedelta | None = None


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
        return [_no_connection(error)]
    async with connection:
        try:
            return await _examine(connection, settings, limits or Limits())
        except psycopg.Error as error:
            return [_failed_question("installation", error)]


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether none of the findings is an error."""
    return all(finding.severity is not Severity.ERROR for finding in findings)


async def _examine(connection: _Connection, settings: Settings, limits: Limits) -> list[Finding]:
    await connection.execute(
        "select set_config('statement_timeout', %s, false) as timeout, "
        "set_config('TimeZone', 'UTC', false) as zone",
        [f"{_SECONDS_FOR_A_QUERY}s"],
    )
    info = connection.info
    shown = info.parameter_status("server_version") or str(info.server_version)
    findings = [_server(info.server_version, shown, info.dbname)]
    if is_healthy(findings):
        findings.append(await _installation(connection, settings))
    if not is_healthy(findings):
        return findings
    for name, question in _QUESTIONS.items():
        try:
            findings += await question(connection, settings, limits)
        except psycopg.Error as error:
            findings.append(_failed_question(name, error))
    return findings


def _no_connection(error: psycopg.Error) -> Finding:
    said = _first_line(error)
    # libpq has no codes for these, and servers may speak other languages than English.
    if re.search(r"password|authentication|pg_hba\.conf", said):
        title, remedy = (
            "login refused",
            "Check user and password in DATABASE_URL (or PG* variables).",
        )
    elif re.search(r"FATAL.*database \".*\" does not exist", said):
        title, remedy = "no such database", "Check the database's name, or create it."
    elif re.search(r"FATAL.*role \".*\" does not exist", said):
        title, remedy = "no such user", "Check the user in DATABASE_URL (or PGUSER)."
    elif "too many clients" in said or "connection slots" in said:
        title, remedy = "no free connection", "Raise max_connections, or lower the pool sizes."
    else:
        title = "no server"
        remedy = "Check host and port in DATABASE_URL (or PG* variables), and that it runs there."
    return Finding("server.unreachable", Severity.ERROR, title, said, remedy)


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
        _first_line(error),
        remedy,
    )


def _server(version_number: int, shown: str, database: str) -> Finding:
    if version_number < OLDEST_POSTGRESQL * 10_000:
        return Finding(
            "server.too_old",
            Severity.ERROR,
            "PostgreSQL is too old",
            f"This is PostgreSQL {shown}; {OLDEST_POSTGRESQL} or newer is needed.",
            f"Move the database to PostgreSQL {OLDEST_POSTGRESQL} or newer.",
        )
    return Finding("server", Severity.OK, "server", f"PostgreSQL {shown}, database {database}.")


async def _installation(connection: _Connection, settings: Settings) -> Finding:
    expected = MIGRATIONS[-1].version
    title = "installation"
    exists = await _one(connection, "select to_regclass('analytics.migrations') is not null as it")
    version = 0
    if exists.it:
        found = await _one(
            connection, "select coalesce(max(version), 0) as version from analytics.migrations"
        )
        version = found.version
    if version == 0:
        return Finding(
            "installation.missing", Severity.ERROR, title, "The database is not migrated.", _MIGRATE
        )
    if version != expected:
        return Finding(
            "installation.version",
            Severity.ERROR,
            title,
            f"The database is at version {version}, this package needs {expected}.",
            _MIGRATE if version < expected else "Install the newer session-analytics.",
        )
    bound = await _one(connection, "select source_schema from analytics.settings")
    if bound.source_schema != settings.source_schema:
        return Finding(
            "installation.source_schema",
            Severity.ERROR,
            title,
            f"The database was installed for the source schema {bound.source_schema}, "
            f"not {settings.source_schema}.",
            f"Set SESSION_ANALYTICS_SOURCE_SCHEMA={bound.source_schema}.",
        )
    return Finding(
        "installation",
        Severity.OK,
        title,
        f"Version {version}, source tables in schema {bound.source_schema}.",
    )


async def _triggers(connection: _Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    rows = await _all(
        connection,
        """
        select
            pg_class.relname as table_name,
            pg_trigger.tgname as name,
            pg_trigger.tgenabled as state
        from pg_class
        left join pg_trigger on pg_trigger.tgrelid = pg_class.oid and not pg_trigger.tgisinternal
        where
            pg_class.relnamespace = to_regnamespace(quote_ident(%s))
            and pg_class.relname in ('sessions', 'session_metrics')
            and pg_class.relkind in ('r', 'p')
        """,
        [settings.source_schema],
    )
    findings = []
    for table in ("sessions", "session_metrics"):
        named = f"{settings.source_schema}.{table}"
        states = {row.name: row.state for row in rows if row.table_name == table}
        if not states:
            findings.append(
                Finding(
                    "source.missing",
                    Severity.ERROR,
                    "no source table",
                    f"{named} does not exist.",
                    "Restore it from a backup, or start anew: `session-analytics uninstall`, then "
                    "`session-analytics migrate`.",
                )
            )
            continue
        missing = [name for name in _TRIGGERS if name not in states]
        # O: as usual; A: always. D is disabled, R fires in replicas only.
        silent = [name for name in _TRIGGERS if states.get(name, "O") not in {"O", "A", b"O", b"A"}]
        if missing:
            findings.append(
                Finding(
                    "triggers.missing",
                    Severity.ERROR,
                    "triggers are missing",
                    f"{named} lacks {', '.join(missing)}: writes pass the figures by.",
                    "Create them again as in fiml/sessions/migrations/0002_change_feed.sql, then "
                    "run `session-analytics build --from-scratch`.",
                )
            )
        if silent:
            statements = " ".join(f"alter table {named} enable trigger {name};" for name in silent)
            findings.append(
                Finding(
                    "triggers.disabled",
                    Severity.ERROR,
                    "triggers are disabled",
                    f"{named}: {', '.join(silent)}: writes pass the figures by.",
                    f"Run in psql: {statements} Then run `session-analytics build --from-scratch`.",
                )
            )
    return findings or [
        Finding("triggers", Severity.OK, "triggers", "Every change of the source tables is logged.")
    ]


async def _builds(connection: _Connection, settings: Settings, limits: Limits) -> list[Finding]:
    marts = await _all(
        connection,
        """
        select
            mart_states.mart,
            mart_states.is_rebuild_requested,
            mart_states.watermark is not null as is_usable,
            watermarks.watermark is not null as is_built,
            now() - mart_states.folded_at as age
        from analytics.mart_states
        inner join analytics.watermarks on watermarks.mart = mart_states.mart
        order by mart_states.mart
        """,
    )
    findings = []
    foreign = [mart.mart for mart in marts if mart.is_built and not mart.is_usable]
    unbuilt = [mart.mart for mart in marts if not mart.is_built]
    requested = [mart.mart for mart in marts if mart.is_rebuild_requested]
    ages = [mart.age for mart in marts if mart.is_usable and mart.age is not None]
    if foreign:
        findings.append(
            Finding(
                "build.foreign",
                Severity.WARNING,
                "marts of another server",
                f"{_listed(foreign)}: made before this database was restored or copied here. "
                "Answers are right, but read from the raw rows, which is slow.",
                f"{_BUILD} It starts from scratch by itself.",
            )
        )
    if unbuilt:
        findings.append(
            Finding(
                "build.missing",
                Severity.WARNING,
                "no build yet",
                f"{_listed(unbuilt)}: never built. "
                "Answers are right, but read from the raw rows, which is slow.",
                _BUILD,
            )
        )
    if requested:
        findings.append(
            Finding(
                "build.rebuild_requested",
                Severity.WARNING,
                "a rebuild is waiting",
                f"{_listed(requested)}: asked for, not done yet or interrupted.",
                f"{_BUILD} It starts from scratch by itself.",
            )
        )
    if ages:
        limit = limits.build_age or _patience(settings.schedule)
        is_stale = max(ages) > limit
        findings.append(
            Finding(
                "build.stale" if is_stale else "build",
                Severity.WARNING if is_stale else Severity.OK,
                "stale build" if is_stale else "build",
                f"The oldest mart was built {_span(max(ages))} ago"
                + (f", more than {_span(limit)}." if is_stale else "."),
                f"{_BUILD} Then see why the schedule ({settings.schedule}) did not."
                if is_stale
                else None,
            )
        )
    return findings


async def _serving(connection: _Connection, _settings: Settings, limits: Limits) -> list[Finding]:
    layer = await _one(
        connection,
        """
        select
            coalesce(has_function_privilege(reading.oid, 'execute'), false) as is_there,
            (
                select count(*)
                from (
                    select from analytics.session_changes
                    inner join analytics.mart_states on mart_states.mart = 'session_totals'
                    where analytics.is_unseen(session_changes.xid, mart_states.watermark)
                    limit %(at_most)s
                ) as unseen
            ) as unseen_rows
        from (
            select (
                select pg_proc.oid
                from pg_proc
                where
                    pg_proc.proname = 'read_window'
                    and pg_proc.pronamespace = to_regnamespace('analytics')
                    and has_table_privilege(to_regclass('serving.session_totals'), 'select')
            ) as oid
        ) as reading
        """,
        {"at_most": limits.unseen_rows + 1},
    )
    if not layer.is_there:
        return [
            Finding(
                "serving.missing",
                Severity.WARNING,
                "no serving layer",
                "The schema serving is not there, or not open to this role. Answers are right, but "
                "read from the marts, which is slower.",
                "Grant this role `usage` and `select` in the schema serving; if it was dropped, "
                "`session-analytics uninstall` and `session-analytics migrate` make it again.",
            )
        ]
    if layer.unseen_rows > limits.unseen_rows:
        return [
            Finding(
                "serving.behind",
                Severity.WARNING,
                "the serving layer is behind",
                f"More than {limits.unseen_rows:,} changes are not folded: each read adds them up.",
                "Keep `session-analytics fold` running, or run `session-analytics build`.",
            )
        ]
    return [
        Finding(
            "serving",
            Severity.OK,
            "serving layer",
            f"{layer.unseen_rows:,} changes are not folded yet.",
        )
    ]


async def _feed(connection: _Connection, _settings: Settings, limits: Limits) -> list[Finding]:
    feed = await _one(
        connection,
        """
        select
            (
                select count(*)
                from (select from analytics.session_changes limit %(at_most)s) as counted
            ) as rows,
            pg_total_relation_size('analytics.session_changes') as bytes,
            (
                select mart_states.mart
                from analytics.mart_states
                order by mart_states.watermark is not null, mart_states.window_id, mart_states.mart
                limit 1
            ) as oldest_mart,
            (select now() - min(folded_at) from analytics.watermarks) as oldest_age
        """,
        {"at_most": _COUNTED_AT_MOST},
    )
    is_large = feed.rows > limits.feed_rows or feed.bytes > limits.feed_bytes
    more = " or more" if feed.rows == _COUNTED_AT_MOST else ""
    age = "never built" if feed.oldest_age is None else f"built {_span(feed.oldest_age)} ago"
    return [
        Finding(
            "feed.growing" if is_large else "feed",
            Severity.WARNING if is_large else Severity.OK,
            "growing change feed" if is_large else "change feed",
            f"{feed.rows:,}{more} rows, {feed.bytes / 1024**2:,.1f} MiB; "
            f"oldest mart: {feed.oldest_mart}, {age}.",
            f"{_BUILD} Rows that every mart has folded are pruned half an hour later. If the rows "
            "stay, a mart is left out of the builds; if only the size stays, run in psql: "
            "vacuum analytics.session_changes;"
            if is_large
            else None,
        )
    ]


async def _archival(connection: _Connection, settings: Settings, limits: Limits) -> list[Finding]:
    source = sql.Identifier(settings.source_schema)
    pending = await _one(
        connection,
        sql.SQL(
            """
            select
                count(*) as sessions,
                coalesce(
                    now() - min(expired.expires_at) filter (where isfinite(expired.expires_at)),
                    interval '0'
                ) as delay
            from (
                select sessions.expires_at
                from {source}.sessions
                where
                    not sessions.is_archived
                    and sessions.expires_at <= now()
                    and not exists (
                        select from analytics.quarantine
                        where quarantine.session_id = sessions.id and quarantine.fact = 'archival'
                    )
                order by sessions.expires_at
                limit %(at_most)s
            ) as expired
            """
        ).format(source=source),
        {"at_most": _COUNTED_AT_MOST},
    )
    if not pending.sessions:
        return [Finding("archival", Severity.OK, "archival", "No expired session is waiting.")]
    limit = limits.archival_delay or _patience(settings.schedule)
    is_late = pending.delay > limit
    more = " or more" if pending.sessions == _COUNTED_AT_MOST else ""
    return [
        Finding(
            "archival.pending" if is_late else "archival",
            Severity.WARNING if is_late else Severity.OK,
            "pending archival" if is_late else "archival",
            f"{pending.sessions:,}{more} expired sessions wait, the oldest for "
            f"{_span(pending.delay)}. They are in no figure until they are archived.",
            "Run `session-analytics archive`." if is_late else None,
        )
    ]


async def _quarantine(
    connection: _Connection, _settings: Settings, _limits: Limits
) -> list[Finding]:
    rows = await _all(
        connection,
        """
        select quarantine.fact, quarantine.reason, count(*) as rows
        from analytics.quarantine
        group by quarantine.fact, quarantine.reason
        order by count(*) desc, quarantine.reason
        limit 20
        """,
    )
    look = "Look at analytics.quarantine, and delete there what needs no attention."
    remedies = {
        "archival": "Repair these sessions (analytics.quarantine has their ids), then run "
        "`session-analytics archive --retry-quarantined`.",
        "metrics": look,
        "late archival": look,
    }
    return [
        Finding(
            f"quarantine.{row.fact}",
            Severity.WARNING,
            "rows set aside",
            f"{row.rows:,} of {row.fact}: {row.reason}.",
            remedies[row.fact],
        )
        for row in rows
    ] or [Finding("quarantine", Severity.OK, "quarantine", "No row was set aside.")]


async def _expiry(connection: _Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    found = await _one(
        connection,
        sql.SQL(
            """
            select count(*) as sessions
            from (
                select
                from {source}.sessions
                where not sessions.is_archived and sessions.expires_at is null
                limit %(at_most)s
            ) as endless
            """
        ).format(source=sql.Identifier(settings.source_schema)),
        {"at_most": _COUNTED_AT_MOST},
    )
    if not found.sessions:
        return []
    more = " or more" if found.sessions == _COUNTED_AT_MOST else ""
    return [
        Finding(
            "sessions.without_expiry",
            Severity.WARNING,
            "sessions without an expiry",
            f"{found.sessions:,}{more} open sessions have no expires_at: they never count as "
            "active and are never archived.",
            f"Set expires_at of these rows in {settings.source_schema}.sessions.",
        )
    ]


async def _freshness(connection: _Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    found = await _one(
        connection,
        sql.SQL(
            """
            select
                latest.recorded_at,
                latest.archived_at,
                now() - latest.recorded_at as age,
                latest.archived_at - latest.recorded_at as lag
            from (
                select
                    (
                        select max(session_metrics.recorded_at)
                        from {source}.session_metrics
                        where isfinite(session_metrics.recorded_at)
                    ) as recorded_at,
                    (
                        select max(sessions.archived_at)
                        from {source}.sessions
                        where
                            sessions.is_archived
                            and sessions.archived_at <= now()
                            and isfinite(sessions.archived_at)
                    ) as archived_at
            ) as latest
            """
        ).format(source=sql.Identifier(settings.source_schema)),
    )
    if found.archived_at is not None and (found.recorded_at is None or found.lag > _HOUR):
        recorded = "never" if found.age is None else f"{_span(found.age)} ago"
        return [
            Finding(
                "metrics.missing",
                Severity.WARNING,
                "sessions are archived without metrics",
                f"A session was archived at {found.archived_at:%Y-%m-%d %H:%M} UTC, metrics were "
                f"recorded last: {recorded}. Such sessions are in archived_sessions alone.",
                "Archive by `session-analytics archive` or SessionStore, which record them.",
            )
        ]
    detail = (
        "No metrics yet." if found.age is None else f"Metrics were recorded {_span(found.age)} ago."
    )
    return [Finding("metrics", Severity.OK, "freshness", detail)]


async def _alerts(connection: _Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    found = await _one(
        connection,
        """
        select
            count(*) as rules,
            count(*) filter (where alert_rules.state = 'unknown') as unknown,
            min(alert_rules.problem) as problem,
            now() - max(alert_rules.evaluated_at) as age
        from analytics.alert_rules
        """,
    )
    waiting = await _one(
        connection,
        """
        select
            count(*) as notices,
            now() - min(notices.created_at) as age,
            min(notices.channel || ': ' || notices.problem) as problem
        from analytics.notices
        where
            notices.attempts > 0
            and notices.delivered_at is null
            and notices.given_up_at is null
        """,
    )
    findings = []
    if found.unknown:
        findings.append(
            Finding(
                "alerts.unknown",
                Severity.WARNING,
                "alert rules that cannot be evaluated",
                f"{found.unknown:,} of {found.rules:,} rules; one of them: {found.problem}.",
                "Run `session-analytics alerts --evaluate`.",
            )
        )
    if waiting.notices:
        findings.append(
            Finding(
                "alerts.undelivered",
                Severity.WARNING,
                "undelivered notices",
                f"{waiting.notices:,} could not be delivered yet, the oldest waits for "
                f"{_span(waiting.age)}: {waiting.problem}.",
                "Repair the channel; the next evaluation tries again. `session-analytics alerts` "
                "shows each.",
            )
        )
    if found.rules and settings.alerts_file is not None:
        limit = _patience(settings.schedule)
        if found.age is not None and found.age > limit:
            findings.append(
                Finding(
                    "alerts.stale",
                    Severity.WARNING,
                    "alert rules are not evaluated",
                    f"The last time was {_span(found.age)} ago, more than {_span(limit)}.",
                    "Run `session-analytics alerts --evaluate`, then see why the schedule "
                    f"({settings.schedule}) did not.",
                )
            )
    if not findings and found.rules:
        findings.append(
            Finding("alerts", Severity.OK, "alerts", f"{found.rules:,} rules are evaluated.")
        )
    return findings


_Question = Callable[[_Connection, Settings, Limits], Awaitable[list[Finding]]]
_QUESTIONS: Final[dict[str, _Question]] = {
    "triggers": _triggers,
    "build": _builds,
    "serving": _serving,
    "feed": _feed,
    "archival": _archival,
    "quarantine": _quarantine,
    "sessions": _expiry,
    "metrics": _freshness,
    "alerts": _alerts,
}


async def _one(
    connection: _Connection, statement: sql.Composed | str, parameters: Any = None
) -> Any:
    rows = await _all(connection, statement, parameters)
    return rows[0]


async def _all(
    connection: _Connection, statement: sql.Composed | str, parameters: Any = None
) -> list[Any]:
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall()


def _patience(schedule: str) -> timedelta:
    """Three periods of a cron expression, at least an hour."""
    return max(_HOUR, 3 * _period(schedule))


def _period(schedule: str) -> timedelta:
    match schedule.split():
        case [minute, "*", "*", "*", "*"] if (step := _step(minute)) is not None:
            return timedelta(minutes=step)
        case [_, "*", "*", "*", "*"]:
            return _HOUR
        case [_, hour, "*", "*", "*"] if (step := _step(hour)) is not None:
            return timedelta(hours=step)
        case [_, _, "*", "*", "*"]:
            return _DAY
        case _:
            return 7 * _DAY


def _step(field: str) -> int | None:
    if field == "*":
        return 1
    found = re.fullmatch(r"\*/([0-9]{1,2})", field)
    return int(found[1]) if found else None


def _span(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _listed(names: Sequence[str]) -> str:
    return f"all {len(names)} marts" if len(names) > 2 else " and ".join(names)


def _first_line(error: psycopg.Error) -> str:
    text = (error.diag.message_primary or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
