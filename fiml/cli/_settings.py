"""The command that lists the settings."""

from __future__ import annotations

import os
from typing import Final

import click

from fiml.cli._console import out_console, printable
from fiml.settings import SETTINGS, Setting

__all__ = ["settings"]

_HIDDEN: Final = "********"
_NONE: Final = "-"
# What libpq has a program show as a password, or not at all.
_MARKS: Final = (b"*", b"D")
# Beside what libpq itself says is none to be shown; what older ones say of these is not known.
_SECRETS: Final = {
    "password",
    "sslpassword",
    "scram_client_key",
    "scram_server_key",
    "oauth_client_secret",
}


@click.command()
def settings() -> None:
    """List every setting: its value now, its default, what it means."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = out_console()
    for setting in SETTINGS:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("value", Text(printable(_value(setting)), style="cyan"))
        table.add_row("default", Text(setting.default or _NONE))
        table.add_row("meaning", Text(setting.help))
        console.print(Text(setting.name, style="bold"))
        console.print(Padding(table, (0, 0, 1, 2)))


def _value(setting: Setting) -> str:
    given = os.environ.get(setting.name)
    if not given:
        return setting.default or _NONE
    if setting.is_secret:
        return _HIDDEN
    return _without_secrets(given) if setting.name.endswith("_URL") else given


def _without_secrets(given: str) -> str:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.pq import Conninfo

    from fiml.errors import SettingsError
    from fiml.libpq import checked_conninfo

    try:
        parts = conninfo_to_dict(checked_conninfo("", given))
    except SettingsError:
        # Whatever it is, it may hold a password.
        return "(set, but no PostgreSQL connection string)"
    marked = {
        option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar in _MARKS
    }
    hidden = {name: _HIDDEN for name in parts if name in marked | _SECRETS}
    return make_conninfo("", **{**parts, **hidden})
