"""What the documents say of commands, settings, files and errors is what there is."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from fiml import errors
from fiml.cli import main
from fiml.monitoring.catalogue import METRICS
from fiml.sessions.roles import SETTINGS_OF_LOGINS, Purpose
from fiml.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
UNITS = sorted(ROOT.glob("examples/systemd/*.service"))


def settings_table() -> str:
    rows = [
        f"| `{setting.name}` | {f'`{setting.default}`' if setting.default else ''} "
        f"| {setting.help} |"
        for setting in SETTINGS
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def metrics_table() -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} "
        f"| {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def test_the_table_of_metrics_is_the_one_in_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("<!-- metrics:")[2].partition("-->\n")[2].partition("<!-- end")[0]
    assert table.strip() == metrics_table()


def test_the_examples_for_prometheus_name_metrics_that_there_are() -> None:
    folder = ROOT / "examples" / "prometheus"
    scraping = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    (rule_file,) = scraping["rule_files"]
    rules = yaml.safe_load((folder / rule_file).read_text(encoding="utf-8"))
    asked = {
        name.removesuffix("_bucket")
        for group in rules["groups"]
        for rule in group["rules"]
        for name in re.findall(r"session_analytics_\w+", rule["expr"])
    }
    assert asked
    assert asked <= {metric.name for metric in METRICS}


def test_the_table_of_settings_is_the_one_in_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("<!-- settings:")[2].partition("-->\n")[2].partition("<!-- end")[0]
    assert table.strip() == settings_table()


def test_the_table_of_the_logins_settings_is_the_one_in_the_code() -> None:
    names = {name for settings in SETTINGS_OF_LOGINS.values() for name in settings}
    purposes = [purpose for purpose in Purpose if SETTINGS_OF_LOGINS[purpose]]
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    heading = f"| setting | {' | '.join(f'`{purpose}`' for purpose in purposes)} |\n"
    lines = text.partition(heading)[2].partition("\n\n")[0].splitlines()[1:]
    rows = {
        f"| `{name}` |"
        + "".join(
            f" {value} |" if (value := SETTINGS_OF_LOGINS[purpose].get(name)) else " |"
            for purpose in purposes
        )
        for name in names
    }
    assert set(lines) == rows


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"`((?:fiml|models|macros|orchestration|tests)/[^`\s]*)`", text):
        assert list(ROOT.glob(target.rstrip("/"))), target


@pytest.mark.parametrize("document", [*DOCUMENTS, *UNITS], ids=lambda path: path.name)
def test_every_command_that_is_shown_exists_with_its_options(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for line in re.findall(r"session-analytics ((?:[a-z][a-z-]*)(?:[ ][^`\n#;,|]*)?)", text):
        words = shlex.split(line.partition("  ")[0])
        command = main.commands.get(words[0])
        if command is None:
            assert document.suffix != ".service", line
            assert not re.search(rf"(`|bin/)session-analytics {re.escape(words[0])}", text), line
            continue
        options = {name for parameter in command.params for name in parameter.opts}
        shown = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert shown <= options, line


def test_every_promise_of_security_names_a_test_that_there_is() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    tests = "".join(
        path.read_text(encoding="utf-8") for path in ROOT.glob("tests/python/**/test_*.py")
    )
    promises = [line for line in text.splitlines() if line.startswith("| ") and "`test_" in line]
    assert promises
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


def test_the_drawn_tree_of_errors_names_every_error() -> None:
    drawn = set(re.findall(r"\b(\w+Error)\b(?= |$|\n)", errors.__doc__ or ""))
    assert set(errors.__all__) <= drawn


def test_every_command_has_a_help_text_of_its_own() -> None:
    assert isinstance(main, click.Group)
    for name, command in main.commands.items():
        assert command.help, name
