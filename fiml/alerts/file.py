"""Reading an alert file: everything in it is checked before anything is evaluated or sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import time
from decimal import Decimal
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fiml.alerts._yaml import Entries, Value, parse
from fiml.alerts.model import (
    LOG,
    AlertFile,
    Channel,
    Comparison,
    Figure,
    Report,
    Rule,
    Secret,
    Security,
    Severity,
    SmtpChannel,
    WebhookChannel,
)
from fiml.errors import AlertFileError, SettingsError
from fiml.identity._files import read_public
from fiml.sessions._arguments import MAX_DAYS, MAX_HOURS, MAX_NAME_LENGTH, check_user_id
from fiml.sessions._time_arguments import check_timezone
from fiml.sessions.session_types import SessionType, check_session_type
from fiml.settings import Settings

__all__ = ["HOW_TO_NAME_ONE", "load", "parse_file"]

_VARIABLE: Final = "SESSION_ANALYTICS_ALERTS_FILE"
HOW_TO_NAME_ONE: Final = f"no alert file is named: set {_VARIABLE}; examples/alerts.yml is one"

_PARTS: Final = ("channels", "rules", "reports")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME_FORM: Final = "1 to 64 letters, digits, - and _, beginning with a letter or digit"
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Narrower than RFC 5321: nothing that a header could take for anything else.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")
_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_LONGEST_RULE_NAME: Final = 100
_LONGEST_DESCRIPTION: Final = 500
_LONGEST_URL: Final = 2000
_MOST_SESSIONS: Final = 10**12
_HOURS_OF_A_DAY: Final = 24
_LONGEST_TIMEOUT: Final = 60
_DEFAULT_TIMEOUT: Final = 10
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PORTS: Final = {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}


def load(settings: Settings) -> AlertFile:
    """Read the file that the settings name.

    Raises:
        SettingsError: none is named, it cannot be read, or others may change it: it says where
            figures are sent, and which files hold secrets.
        AlertFileError: something in it is wrong; the message has line, name and key.
    """
    path = settings.alerts_file
    if path is None:
        raise SettingsError(HOW_TO_NAME_ONE)
    content = read_public(path, _VARIABLE)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise AlertFileError(f"{path.name}: it is no UTF-8") from None
    return parse_file(text, path)


def parse_file(text: str, path: Path) -> AlertFile:
    """Check the text of an alert file.

    Args:
        text: YAML.
        path: the file: messages begin with its name, and paths in it are relative to its folder.

    Raises:
        AlertFileError: something in it is wrong; the message has line, name and key.
    """
    parts = parse(text, path.name).entries(_PARTS)
    folder = path.parent
    channels: dict[str, Channel] = {LOG.name: LOG}
    if given := parts.get("channels"):
        for name, value in given.named():
            value.path = f"channel {name!r}"
            if not _NAME.fullmatch(name):
                value.complain(f"is no name of a channel; expected {_NAME_FORM}")
            if name == LOG.name:
                value.complain("is there without being named; expected another name")
            channels[name] = _channel(value, name, folder)
    rules = [
        _rule(entries, name, channels)
        for entries, name in _named(parts.get("rules"), "rule", _RULE)
    ]
    reports = [
        _report(entries, name, channels, folder)
        for entries, name in _named(parts.get("reports"), "report", _REPORT)
    ]
    return AlertFile(tuple(channels.values()), tuple(rules), tuple(reports))


_RULE: Final = (
    "name",
    "description",
    "figure",
    "of",
    "comparison",
    "threshold",
    "days",
    "hours",
    "minimum_sessions",
    "session_type",
    "user_id",
    "severity",
    "channels",
)
_REPORT: Final = (
    "name",
    "title",
    "session_type",
    "user_id",
    "timezone",
    "at",
    "channel",
    "recipients",
    "folder",
)


def _named(given: Value | None, kind: str, keys: tuple[str, ...]) -> Iterator[tuple[Entries, str]]:
    """Each of a list, with its name, which no other one has."""
    seen: set[str] = set()
    for value in given.elements() if given else []:
        entries = value.entries(keys)
        name = (
            entries["name"].text(_LONGEST_RULE_NAME)
            if kind == "rule"
            else entries["name"].matching(_NAME, _NAME_FORM)
        )
        if name in seen:
            entries["name"].complain(
                f"is {name!r}, as that of another {kind}; expected names to differ"
            )
        seen.add(name)
        entries.rename(f"{kind} {name!r}")
        yield entries, name


def _rule(entries: Entries, name: str, channels: Mapping[str, Channel]) -> Rule:
    figure = entries["figure"].choice(Figure)
    unit, length = entries.one_of("days", "hours")
    in_days = unit == "days"
    hours = length.whole_number(1, MAX_DAYS if in_days else MAX_HOURS)
    description = entries.get("description")
    least = entries.get("minimum_sessions")
    severity = entries.get("severity")
    return Rule(
        name=name,
        description=description.text(_LONGEST_DESCRIPTION) if description else "",
        figure=figure,
        of=_share_of(entries, figure),
        comparison=entries["comparison"].choice(Comparison),
        threshold=Decimal(entries["threshold"].number()),
        window_hours=hours * _HOURS_OF_A_DAY if in_days else hours,
        in_days=in_days,
        minimum_sessions=least.whole_number(0, _MOST_SESSIONS) if least else 0,
        session_type=_session_type(entries),
        user_id=_user_id(entries),
        severity=severity.choice(Severity) if severity else Severity.WARNING,
        channels=_channels(entries, channels),
    )


def _share_of(entries: Entries, figure: Figure) -> str | None:
    if not figure.is_share:
        if given := entries.get("of"):
            given.complain(f"is there, but {figure} is no share; expected it with a share alone")
        return None
    if figure is Figure.SESSION_TYPE_SHARE:
        return entries["of"].choice(SessionType).value
    return entries["of"].text(MAX_NAME_LENGTH)


def _channels(entries: Entries, channels: Mapping[str, Channel]) -> tuple[str, ...]:
    given = entries.get("channels")
    if given is None:
        return (LOG.name,)
    names = [value.text() for value in given.elements()]
    for value, name in zip(given.elements(), names, strict=True):
        if name not in channels:
            value.refuse(f"one of the channels, {', '.join(channels)}")
    if not names or len(set(names)) < len(names):
        given.complain(f"names {len(names)} channels; expected one or more, each once")
    return tuple(names)


def _report(entries: Entries, name: str, channels: Mapping[str, Channel], folder: Path) -> Report:
    title = entries.get("title")
    zone = entries.get("timezone")
    at = entries.get("at")
    if "channel" not in entries and "folder" not in entries:
        entries.complain("has neither channel nor folder; expected one of them, or both")
    channel = entries.get("channel")
    recipients = entries.get("recipients")
    mailed: Channel | None = None
    if channel is not None:
        mailed = channels.get(channel.text())
        if not isinstance(mailed, SmtpChannel):
            known = [known for known, kind in channels.items() if isinstance(kind, SmtpChannel)]
            channel.refuse(f"a channel of kind smtp{', ' if known else ''}{', '.join(known)}")
    elif recipients is not None:
        recipients.complain("is there without a channel; expected a channel of kind smtp as well")
    written = entries.get("folder")
    return Report(
        name=name,
        title=title.text(_LONGEST_RULE_NAME) if title else "Weekly report",
        session_type=_session_type(entries),
        user_id=_user_id(entries),
        timezone=zone.checked(check_timezone) if zone else check_timezone("UTC"),
        at=time.fromisoformat(at.matching(_TIME, 'a time of day in quotes, such as "06:30"'))
        if at
        else time(6),
        channel=mailed.name if mailed else None,
        recipients=_addresses(recipients)
        if recipients
        else mailed.recipients
        if isinstance(mailed, SmtpChannel)
        else (),
        folder=folder / written.text(_LONGEST_URL) if written else None,
    )


def _session_type(entries: Entries) -> str | None:
    given = entries.get("session_type")
    return given.checked(check_session_type).value if given else None


def _user_id(entries: Entries) -> str | None:
    given = entries.get("user_id")
    return given.checked(check_user_id) if given else None


# Channels -----------------------------------------------------------------------------------------


def _channel(value: Value, name: str, folder: Path) -> Channel:
    kinds = {"webhook": _WEBHOOK, "smtp": _SMTP}
    every = tuple(dict.fromkeys(key for keys in kinds.values() for key in keys))
    kind = value.entries(every)["kind"].matching(re.compile("|".join(kinds)), "webhook or smtp")
    entries = value.entries(kinds[kind])
    if kind == "webhook":
        return _webhook(entries, name, folder)
    return _smtp(entries, name, folder)


_WEBHOOK: Final = (
    "kind",
    "url",
    "url_variable",
    "url_file",
    "secret_variable",
    "secret_file",
    "timeout_seconds",
)
_SMTP: Final = (
    "kind",
    "host",
    "port",
    "security",
    "user",
    "password_variable",
    "password_file",
    "sender",
    "recipients",
    "timeout_seconds",
)


def _webhook(entries: Entries, name: str, folder: Path) -> WebhookChannel:
    address: str | Secret
    key, given = entries.one_of("url", "url_variable", "url_file")
    if key == "url":
        address = given.text(_LONGEST_URL)
        if problem := url_problem(address):
            given.complain(problem)
    else:
        address = _secret(key, given, folder)
    return WebhookChannel(
        name, address, _secret_if_any(entries, "secret", folder), _timeout(entries)
    )


def url_problem(url: str) -> str | None:
    """What forbids to post there; never the address, which may be a secret."""
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "is no address; expected https://host/path or http://host/path"
    if parts.scheme not in {"http", "https"} or not is_address or re.search(r"[^!-~]", url):
        return "is no address; expected https://host/path or http://host/path"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password; expected none, and a secret that signs instead"
    return None


def _smtp(entries: Entries, name: str, folder: Path) -> SmtpChannel:
    host = _host(entries["host"])
    security = entries["security"].choice(Security) if "security" in entries else Security.STARTTLS
    port = entries.get("port")
    user = entries.get("user")
    password = _secret_if_any(entries, "password", folder)
    if (user is None) != (password is None):
        there = user or entries.get("password_file") or entries["password_variable"]
        there.complain("is there alone; expected user with password_variable or password_file")
    if user is not None and security is Security.NONE and host not in _LOOPBACK:
        user.complain(
            "would log in without encryption; expected security starttls or tls, or a host of "
            f"{', '.join(_LOOPBACK)}"
        )
    return SmtpChannel(
        name=name,
        host=host,
        port=port.whole_number(1, 65_535) if port else _PORTS[security],
        security=security,
        user=_ascii(user) if user else None,
        password=password,
        sender=entries["sender"].matching(_ADDRESS, _ADDRESS_FORM),
        recipients=_addresses(entries["recipients"]),
        timeout_seconds=_timeout(entries),
    )


def _host(given: Value) -> str:
    text = given.text()
    with suppress(ValueError):
        # Without the name of an interface, which is another machine's own.
        if IPv6Address(text).scope_id is None:
            return text
    return given.matching(_HOST, "the name or address of a host")


def _ascii(given: Value) -> str:
    text = given.text()
    if not text.isascii():
        given.refuse("ASCII, which is all that a login can be")
    return text


_ADDRESS_FORM: Final = "a mail address, such as alerts@example.com"


def _addresses(given: Value) -> tuple[str, ...]:
    addresses = [value.matching(_ADDRESS, _ADDRESS_FORM) for value in given.elements()]
    if not addresses or len(set(addresses)) < len(addresses):
        given.complain(f"has {len(addresses)} addresses; expected one or more, each once")
    return tuple(addresses)


def _timeout(entries: Entries) -> int:
    given = entries.get("timeout_seconds")
    return given.whole_number(1, _LONGEST_TIMEOUT) if given else _DEFAULT_TIMEOUT


def _secret_if_any(entries: Entries, kind: str, folder: Path) -> Secret | None:
    keys = (f"{kind}_variable", f"{kind}_file")
    if not any(key in entries for key in keys):
        return None
    key, given = entries.one_of(*keys)
    return _secret(key, given, folder)


def _secret(key: str, given: Value, folder: Path) -> Secret:
    if key.endswith("_variable"):
        name = given.matching(_VARIABLE_NAME, "the name of an environment variable")
        return Secret(variable=name)
    return Secret(file=folder / given.text(_LONGEST_URL))
