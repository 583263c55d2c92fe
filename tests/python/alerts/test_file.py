"""docs/alerts.md, row by row: what a wrong alert file is answered with; and the example."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from alerts.world import File
from hostile.strings import hostile_strings

from fiml.alerts import file as file_module
from fiml.alerts.file import load, parse_file
from fiml.alerts.model import Figure, Report, Rule, Secret, SmtpChannel, WebhookChannel
from fiml.errors import AlertFileError, SettingsError
from fiml.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "alerts.md"
EXAMPLE = ROOT / "examples" / "alerts.yml"

RULE = {
    "name": "quiet",
    "figure": "total_sessions",
    "comparison": "at_most",
    "threshold": "0",
    "days": "1",
}
WEBHOOK = {"kind": "webhook", "url": "https://hooks.example.com/a"}
MAIL = {
    "kind": "smtp",
    "host": "smtp.example.com",
    "sender": "alerts@example.com",
    "recipients": "[team@example.com]",
}
REPORT = {"name": "weekly", "folder": "reports"}


def lines(entries: Mapping[str, str], first: str) -> str:
    return "".join(
        f"{first if number == 0 else ' ' * len(first)}{key}: {value}\n"
        for number, (key, value) in enumerate(entries.items())
    )


def changed(entries: Mapping[str, str], change: str) -> dict[str, str]:
    """The entries with others in their places: `key: value; no key`."""
    result = dict(entries)
    for step in change.split("; "):
        key, _, value = step.partition(": ")
        if step.startswith("no "):
            del result[step.removeprefix("no ")]
        else:
            result[key] = value
    return result


TABLES: dict[str, Callable[[str], str]] = {
    "file": lambda text: text.replace("⏎", "\n"),
    "rule": lambda change: "rules:\n" + lines(changed(RULE, change), "  - "),
    "webhook": lambda change: "channels:\n  hook:\n" + lines(changed(WEBHOOK, change), "    "),
    "mail": lambda change: "channels:\n  mail:\n" + lines(changed(MAIL, change), "    "),
    "report": lambda change: "reports:\n" + lines(changed(REPORT, change), "  - "),
}


def rows(heading: str) -> Iterator[tuple[str, str]]:
    page = iter(PAGE.read_text(encoding="utf-8").splitlines())
    next(line for line in page if line == f"| {heading} | message |")
    next(page)
    for line in iter(lambda: next(page, ""), ""):
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        yield cells[0], cells[1]


@pytest.mark.parametrize("heading", TABLES)
def test_a_wrong_file_is_answered_as_the_page_says(heading: str) -> None:
    found = list(rows(heading))
    assert len(found) >= 5
    for given, message in found:
        with pytest.raises(AlertFileError) as refusal:
            parse_file(TABLES[heading](given), Path("alerts.yml"))
        assert str(refusal.value) == message, given


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("rule", file_module._RULE),
        ("webhook", file_module._WEBHOOK),
        ("mail", file_module._SMTP),
        ("report", file_module._REPORT),
    ],
)
def test_every_key_has_a_row(heading: str, keys: tuple[str, ...]) -> None:
    told = "\n".join(f"{given}\n{message}" for given, message in rows(heading))
    for key in keys:
        assert re.search(rf"\b{key}\b", told), (heading, key)


@pytest.mark.parametrize(
    ("heading", "base"),
    [("rule", RULE), ("webhook", WEBHOOK), ("mail", MAIL), ("report", REPORT)],
)
def test_what_the_rows_change_is_right_before(heading: str, base: Mapping[str, str]) -> None:
    key, _, value = next(iter(base.items()))[0], "", next(iter(base.values()))
    parse_file(TABLES[heading](f"{key}: {value}"), Path("alerts.yml"))


def test_the_page_tells_every_figure() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for figure in Figure:
        assert f"`{figure}`" in text


def test_the_example_is_right_and_needs_nothing_but_its_secrets() -> None:
    example = parse_file(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    assert [rule.name for rule in example.rules] == [
        "High abandonment",
        "Very high abandonment",
        "Low engagement",
        "No sessions",
    ]
    assert {rule.figure for rule in example.rules} == {
        Figure.ABANDONMENT_RATE,
        Figure.AVG_QUERIES_PER_SESSION,
        Figure.TOTAL_SESSIONS,
    }
    [_, webhook, mail] = example.channels
    assert isinstance(webhook, WebhookChannel)
    assert webhook.secret == Secret(variable="ALERTS_WEBHOOK_SECRET")
    assert isinstance(mail, SmtpChannel)
    assert mail.password == Secret(file=EXAMPLE.parent / "smtp-password")
    assert [report.timezone.key for report in example.reports] == ["Europe/Athens"]


def test_what_a_page_shows_is_what_the_file_has() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        shown = re.findall(r"^ +(?:- )?([a-z_]+):", block, re.MULTILINE)
        known = {
            *file_module._RULE,
            *file_module._WEBHOOK,
            *file_module._SMTP,
            *file_module._REPORT,
            "operations",
            "team",
        }
        assert set(shown) <= known
    assert {field.name for field in fields(Report)} == set(file_module._REPORT)
    of_the_file = {field.name for field in fields(Rule)} - {"window_hours", "in_days"}
    assert of_the_file == set(file_module._RULE) - {"days", "hours"}


@pytest.mark.parametrize("text", hostile_strings(400))
def test_whatever_stands_there_is_refused_in_a_line(text: str) -> None:
    for given in (text, f"rules: [{{name: {text}}}]", f"channels: {{{text}: 1}}"):
        if given == "{}":
            continue
        with pytest.raises(AlertFileError) as refusal:
            parse_file(given, Path("alerts.yml"))
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "host",
    ["a", "localhost", "smtp.example.com.", "a" * 63 + ".b", "192.0.2.1", "'::1'", "'2001:db8::1'"],
)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    mail = parse_file(TABLES["mail"](f"host: {host}"), Path("alerts.yml")).channels[-1]
    assert isinstance(mail, SmtpChannel)
    assert mail.host == host.strip("'")


@pytest.mark.parametrize(
    "host",
    [
        "a" * 64 + ".b",
        "b." + "a" * 64,
        ".",
        ".a",
        "a..",
        "ä.example",
        "'::1::'",
        "'a:1'",
        "fe80::1%a",
        ".".join(["a" * 63] * 4),
    ],
)
def test_a_host_that_cannot_be_one_is_refused(host: str) -> None:
    with pytest.raises(AlertFileError, match=r"line 4: channel 'mail': host "):
        parse_file(TABLES["mail"](f"host: {host}"), Path("alerts.yml"))


def test_an_anchor_that_holds_itself_is_refused() -> None:
    with pytest.raises(AlertFileError):
        parse_file("rules: &a [*a]", Path("alerts.yml"))


def test_nesting_without_an_end_is_refused() -> None:
    with pytest.raises(AlertFileError, match="nested too deeply"):
        parse_file("[" * 100_000, Path("alerts.yml"))


def test_a_user_id_is_never_repeated() -> None:
    for value in ("7", "[zz-ann]", "{zz-ann: 1}", "''", '"zz-ann\\0"'):
        with pytest.raises(AlertFileError) as refusal:
            parse_file(TABLES["rule"](f"user_id: {value}"), Path("alerts.yml"))
        assert "zz-ann" not in str(refusal.value)
        assert " is 7" not in str(refusal.value)


def test_a_file_that_others_may_change_is_refused(settings: Settings, file: File) -> None:
    load(settings)
    file.path.chmod(0o666)
    with pytest.raises(SettingsError, match="SESSION_ANALYTICS_ALERTS_FILE: others may write"):
        load(settings)


def test_without_a_file_it_says_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match="set SESSION_ANALYTICS_ALERTS_FILE"):
        load(Settings())
