"""Settings, each with its name, default and meaning, read from the environment in one place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fiml.errors import SettingsError
from fiml.libpq import (
    checked_conninfo,
    connection_parameters,
    connection_variables,
    without_service,
)
from fiml.monitoring.logs import LogFormat
from fiml.sessions.roles import Purpose

__all__ = ["SETTINGS", "Setting", "Settings"]

PROJECT_DIR = Path(__file__).resolve().parent.parent
_LONGEST_SHOWN = 100
_TRACES = ("otlp",)


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable; a secret one is never shown."""

    name: str
    default: str
    help: str
    is_secret: bool = False


SETTINGS = (
    Setting(
        "DATABASE_URL",
        "",
        "Where the sessions are: a postgresql:// URL or a libpq connection string. Without it, "
        "libpq's own PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE and so on.",
    ),
    Setting(
        "SESSION_ANALYTICS_APP_URL",
        "",
        "The same database, with the login that `archive` and the job archive with; default: as "
        "DATABASE_URL.",
    ),
    Setting(
        "SESSION_ANALYTICS_BUILDER_URL",
        "",
        "The same database, with the login that `build`, `fold`, `reconcile`, `doctor`, `alerts`, "
        "`reports` and the job use; default: as DATABASE_URL.",
    ),
    Setting(
        "SESSION_ANALYTICS_READER_URL",
        "",
        "The same database, with the login that `stats`, `export`, `serve` and `mcp` read with; "
        "default: as DATABASE_URL.",
    ),
    Setting(
        "SESSION_ANALYTICS_ROLE_PREFIX",
        "",
        "What the names of the roles that `migrate` makes begin with; default: the database's name "
        "and _analytics_.",
    ),
    Setting(
        "SESSION_ANALYTICS_SOURCE_SCHEMA",
        "public",
        "Schema of the tables sessions and session_metrics.",
    ),
    Setting(
        "SESSION_ANALYTICS_POOL_SIZE",
        "10",
        "Most connections that one process keeps open.",
    ),
    Setting(
        "SESSION_ANALYTICS_TIMEOUT_SECONDS",
        "5",
        "Deadline of one call of the library, waiting for a connection included.",
    ),
    Setting(
        "SESSION_ANALYTICS_ARCHIVE_BATCH_SIZE",
        "5000",
        "Sessions archived in one transaction.",
    ),
    Setting(
        "SESSION_ANALYTICS_ARCHIVE_CONNECTIONS",
        "2",
        "Batches archived at once, each with a connection of its own; never more than the pool "
        "has.",
    ),
    Setting(
        "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS",
        "1",
        "How often `session-analytics fold` looks for rows that the marts have not seen: 0.1 to "
        "3600 seconds.",
    ),
    Setting(
        "SESSION_ANALYTICS_SCHEDULE",
        "*/15 * * * *",
        "When Dagster archives and builds (cron, UTC).",
    ),
    Setting(
        "SESSION_ANALYTICS_RECONCILE_SCHEDULE",
        "17 3 * * *",
        "When Dagster compares all days of all marts with the source (cron, UTC).",
    ),
    Setting(
        "SESSION_ANALYTICS_ALERTS_FILE",
        "",
        "YAML file of alert rules, reports and where both are sent; nobody else may be able to "
        "change it. Without it there are none.",
    ),
    Setting(
        "SESSION_ANALYTICS_REPORTS_SCHEDULE",
        "7 * * * *",
        "When Dagster sends the reports that are due and were not sent (cron, UTC).",
    ),
    Setting(
        "SESSION_ANALYTICS_BI_ROLE",
        "",
        "One more role that builds let read the schema marts, beside the one for BI that `migrate` "
        "makes; nothing is ever revoked.",
    ),
    Setting(
        "SESSION_ANALYTICS_AUTH_JWKS_FILE",
        "",
        "JSON Web Key Set with the public keys that tokens over the network are signed with; read "
        "again when it changes. This or a secret, never both.",
    ),
    Setting(
        "SESSION_ANALYTICS_AUTH_SECRET_FILE",
        "",
        "File with the shared secret of tokens (HS256), at least 32 bytes; nobody else may be able "
        "to read it. Read again when it changes.",
    ),
    Setting(
        "SESSION_ANALYTICS_AUTH_SECRET",
        "",
        "The shared secret itself, where there is no file.",
        is_secret=True,
    ),
    Setting(
        "SESSION_ANALYTICS_AUTH_AUDIENCE",
        "",
        "What a token's aud must name. Where it is the URL under which clients reach the server, "
        "that host name is admitted in requests.",
    ),
    Setting(
        "SESSION_ANALYTICS_AUTH_ISSUER",
        "",
        "What a token's iss must be; any issuer that has the key without it. Where it and the "
        "audience are URLs, clients are told where to get a token (RFC 9728).",
    ),
    Setting(
        "SESSION_ANALYTICS_CALLS_PER_MINUTE",
        "120",
        "Calls over the network that one identity may make in the long run.",
    ),
    Setting(
        "SESSION_ANALYTICS_CALLS_BURST",
        "30",
        "Calls that one identity may make at once after a pause, before the rate above holds.",
    ),
    Setting(
        "SESSION_ANALYTICS_CONCURRENT_CALLS",
        "4",
        "Calls of one identity under way at the same time.",
    ),
    Setting(
        "SESSION_ANALYTICS_AUDIT_KEY_FILE",
        "",
        "File with the key of the pseudonyms in the audit log, at least 32 bytes; nobody else may "
        "be able to read it. Without it pseudonyms last as long as the process.",
    ),
    Setting(
        "SESSION_ANALYTICS_LOG_FORMAT",
        "text",
        "What a process that runs on logs to standard error: text, or json, which is one object a "
        "line.",
    ),
    Setting(
        "SESSION_ANALYTICS_TRACES",
        "",
        "Where spans go: otlp sends them as OpenTelemetry's own variables say "
        "(OTEL_EXPORTER_OTLP_ENDPOINT and so on). Without it there are none.",
    ),
    Setting(
        "SESSION_ANALYTICS_PROJECT_DIR",
        "",
        "Folder of dbt_project.yml; default: the checkout this package was installed from.",
    ),
)

_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process.

    Attributes:
        conninfo: libpq connection string; empty means libpq's own environment variables.
        app_conninfo: the same database as who archives; empty means `conninfo`.
        builder_conninfo: the same database as who builds; empty means `conninfo`.
        reader_conninfo: the same database as who reads; empty means `conninfo`.
        role_prefix: what the names of the roles begin with; empty means the database's name.
        source_schema: schema of the tables `sessions` and `session_metrics`.
        pool_size: most connections kept open, at least 1.
        timeout_seconds: deadline of one library call, above 0.
        archive_batch_size: sessions archived in one transaction, at least 1.
        archive_connections: batches archived at once, at least 1.
        fold_interval_seconds: from one look at the change feed to the next, 0.1 to 3600.
        schedule: cron expression of the archive-and-build job, UTC.
        reconcile_schedule: cron expression of the full reconciliation, UTC.
        alerts_file: alert rules and reports; None means that there are none.
        reports_schedule: cron expression of sending reports, UTC.
        auth_jwks_file: the public keys of tokens, as a JSON Web Key Set.
        auth_secret_file: file with the shared secret of tokens.
        auth_secret: the shared secret itself; empty means none.
        auth_audience: what a token's `aud` must name.
        auth_issuer: what a token's `iss` must be; empty means any issuer that has the key.
        calls_per_minute: calls of one identity in the long run, at least 1.
        calls_burst: calls of one identity at once after a pause, at least 1.
        concurrent_calls: calls of one identity under way, at least 1.
        audit_key_file: file with the key of the audit log's pseudonyms.
        log_format: what a line of the log is.
        traces: where spans go: "otlp"; empty means nowhere.
        project_dir: folder of `dbt_project.yml`.
    """

    conninfo: str = _DEFAULTS["DATABASE_URL"]
    app_conninfo: str = _DEFAULTS["SESSION_ANALYTICS_APP_URL"]
    builder_conninfo: str = _DEFAULTS["SESSION_ANALYTICS_BUILDER_URL"]
    reader_conninfo: str = _DEFAULTS["SESSION_ANALYTICS_READER_URL"]
    role_prefix: str = _DEFAULTS["SESSION_ANALYTICS_ROLE_PREFIX"]
    source_schema: str = _DEFAULTS["SESSION_ANALYTICS_SOURCE_SCHEMA"]
    pool_size: int = int(_DEFAULTS["SESSION_ANALYTICS_POOL_SIZE"])
    timeout_seconds: float = float(_DEFAULTS["SESSION_ANALYTICS_TIMEOUT_SECONDS"])
    archive_batch_size: int = int(_DEFAULTS["SESSION_ANALYTICS_ARCHIVE_BATCH_SIZE"])
    archive_connections: int = int(_DEFAULTS["SESSION_ANALYTICS_ARCHIVE_CONNECTIONS"])
    fold_interval_seconds: float = float(_DEFAULTS["SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS"])
    schedule: str = _DEFAULTS["SESSION_ANALYTICS_SCHEDULE"]
    reconcile_schedule: str = _DEFAULTS["SESSION_ANALYTICS_RECONCILE_SCHEDULE"]
    alerts_file: Path | None = None
    reports_schedule: str = _DEFAULTS["SESSION_ANALYTICS_REPORTS_SCHEDULE"]
    auth_jwks_file: Path | None = None
    auth_secret_file: Path | None = None
    auth_secret: str = field(default="", repr=False)
    auth_audience: str = _DEFAULTS["SESSION_ANALYTICS_AUTH_AUDIENCE"]
    auth_issuer: str = _DEFAULTS["SESSION_ANALYTICS_AUTH_ISSUER"]
    calls_per_minute: int = int(_DEFAULTS["SESSION_ANALYTICS_CALLS_PER_MINUTE"])
    calls_burst: int = int(_DEFAULTS["SESSION_ANALYTICS_CALLS_BURST"])
    concurrent_calls: int = int(_DEFAULTS["SESSION_ANALYTICS_CONCURRENT_CALLS"])
    audit_key_file: Path | None = None
    log_format: LogFormat = LogFormat.TEXT
    traces: str = _DEFAULTS["SESSION_ANALYTICS_TRACES"]
    project_dir: Path = PROJECT_DIR

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings, from `os.environ` by default.

        Raises:
            SettingsError: a variable does not parse, and the message names it; or a service is
                named that is not there.
        """
        env = os.environ if environ is None else environ

        def text(name: str) -> str:
            return env.get(name) or _DEFAULTS[name]

        def url(name: str) -> str:
            return without_service(checked_conninfo(name, text(name)), env) if text(name) else ""

        def path(name: str) -> Path | None:
            return Path(given) if (given := text(name)) else None

        return cls(
            conninfo=without_service(checked_conninfo("DATABASE_URL", text("DATABASE_URL")), env),
            app_conninfo=url("SESSION_ANALYTICS_APP_URL"),
            builder_conninfo=url("SESSION_ANALYTICS_BUILDER_URL"),
            reader_conninfo=url("SESSION_ANALYTICS_READER_URL"),
            role_prefix=text("SESSION_ANALYTICS_ROLE_PREFIX"),
            source_schema=text("SESSION_ANALYTICS_SOURCE_SCHEMA"),
            pool_size=_whole_number(env, "SESSION_ANALYTICS_POOL_SIZE"),
            timeout_seconds=_seconds(env, "SESSION_ANALYTICS_TIMEOUT_SECONDS"),
            archive_batch_size=_whole_number(env, "SESSION_ANALYTICS_ARCHIVE_BATCH_SIZE"),
            archive_connections=_whole_number(env, "SESSION_ANALYTICS_ARCHIVE_CONNECTIONS"),
            fold_interval_seconds=_interval(env, "SESSION_ANALYTICS_FOLD_INTERVAL_SECONDS"),
            schedule=text("SESSION_ANALYTICS_SCHEDULE"),
            reconcile_schedule=text("SESSION_ANALYTICS_RECONCILE_SCHEDULE"),
            alerts_file=path("SESSION_ANALYTICS_ALERTS_FILE"),
            reports_schedule=text("SESSION_ANALYTICS_REPORTS_SCHEDULE"),
            auth_jwks_file=path("SESSION_ANALYTICS_AUTH_JWKS_FILE"),
            auth_secret_file=path("SESSION_ANALYTICS_AUTH_SECRET_FILE"),
            auth_secret=text("SESSION_ANALYTICS_AUTH_SECRET"),
            auth_audience=text("SESSION_ANALYTICS_AUTH_AUDIENCE"),
            auth_issuer=text("SESSION_ANALYTICS_AUTH_ISSUER"),
            calls_per_minute=_whole_number(env, "SESSION_ANALYTICS_CALLS_PER_MINUTE"),
            calls_burst=_whole_number(env, "SESSION_ANALYTICS_CALLS_BURST"),
            concurrent_calls=_whole_number(env, "SESSION_ANALYTICS_CONCURRENT_CALLS"),
            audit_key_file=path("SESSION_ANALYTICS_AUDIT_KEY_FILE"),
            log_format=LogFormat(_one_of(env, "SESSION_ANALYTICS_LOG_FORMAT", LogFormat)),
            traces=_one_of(env, "SESSION_ANALYTICS_TRACES", _TRACES),
            project_dir=Path(text("SESSION_ANALYTICS_PROJECT_DIR") or PROJECT_DIR),
        )

    def connecting_as(self, purpose: Purpose) -> Settings:
        """These settings with the login for a purpose, where one is named for it."""
        named = {
            Purpose.APP: self.app_conninfo,
            Purpose.BUILDER: self.builder_conninfo,
            Purpose.READER: self.reader_conninfo,
        }.get(purpose)
        return replace(self, conninfo=named) if named else self

    def login_environment(self) -> dict[str, str]:
        """The connections as variables for a child process, instead of those it would inherit.

        In the environment, which other users cannot read: each may hold a password.
        """
        logins = {
            "SESSION_ANALYTICS_APP_URL": self.app_conninfo,
            "SESSION_ANALYTICS_BUILDER_URL": self.builder_conninfo,
            "SESSION_ANALYTICS_READER_URL": self.reader_conninfo,
        }
        return {**logins, "DATABASE_URL": self.conninfo} if self.conninfo else logins

    def libpq_environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """An environment with the connection in libpq's variables, which psql and dbt read.

        Args:
            environ: what it is beside that; default: this process's own.

        Raises:
            SettingsError: a service is named that is not there.
        """
        env = os.environ if environ is None else environ
        parameters = connection_parameters(self.conninfo, env)
        return {
            **connection_variables(parameters, env),
            "SESSION_ANALYTICS_SOURCE_SCHEMA": self.source_schema,
        }


def _whole_number(env: Mapping[str, str], name: str) -> int:
    given = env.get(name) or _DEFAULTS[name]
    # Python refuses to read thousands of digits.
    is_short = given.isascii() and given.isdigit() and len(given) <= 7
    if not (is_short and 0 < int(given) <= 1_000_000):
        raise SettingsError(f"{name} is {_shown(given)}; expected an integer from 1 to 1000000")
    return int(given)


def _seconds(env: Mapping[str, str], name: str) -> float:
    given = env.get(name) or _DEFAULTS[name]
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise SettingsError(f"{name} is {_shown(given)}; expected seconds, above 0 and up to 86400")
    return seconds


def _interval(env: Mapping[str, str], name: str) -> float:
    given = env.get(name) or _DEFAULTS[name]
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise SettingsError(f"{name} is {_shown(given)}; expected seconds, from 0.1 to 3600")
    return seconds


def _one_of(env: Mapping[str, str], name: str, known: Iterable[str]) -> str:
    given = env.get(name) or _DEFAULTS[name]
    if given and given not in set(known):
        raise SettingsError(f"{name} is {_shown(given)}; expected {' or '.join(known)}")
    return given


def _shown(given: str) -> str:
    return repr(given) if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]!r}..."
