"""Commands that change what is installed, or what is kept."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from fiml.cli._connection import connected_settings, run_async
from fiml.cli._console import counted, is_terminal, printable, reporting
from fiml.cli._group import Failure, WrongUsage
from fiml.cli._options import whole_number
from fiml.sessions._arguments import MAX_KEEP_DAYS
from fiml.settings import Settings

__all__ = ["erase_user", "migrate", "retention", "uninstall"]


@click.command()
def migrate() -> None:
    """Bring the database to this version; safe to repeat."""
    from fiml.sessions.migrations import MIGRATIONS
    from fiml.sessions.migrations import migrate as apply_migrations

    notes: list[str] = []
    with connected_settings() as settings, reporting("Migrating") as report:
        applied = apply_migrations(
            settings.conninfo,
            settings.source_schema,
            role_prefix=settings.role_prefix,
            on_progress=lambda step: report(f"{step.version} {step.name}"),
            on_note=notes.append,
        )
    version = MIGRATIONS[-1].version
    if applied:
        click.echo(
            f"The database is at version {version}; {counted(len(applied), 'migration')} applied."
        )
    else:
        click.echo(f"The database is at version {version} already.")
    _tell(notes)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def uninstall(*, yes: bool) -> None:
    """Take out triggers, schemas and roles; source tables stay.

    Those are the schemas analytics, marts and serving, and the roles that migrate made. What only
    the marts still know (days behind the retention horizon) and the list of erased users go with
    them.
    """
    from fiml.sessions.migrations import uninstall as take_out

    notes: list[str] = []
    with connected_settings() as settings:
        if not yes:
            _confirm(
                f"Take the triggers, the schemas analytics, marts and serving, and the roles that "
                f"were made out of {_place(settings)}? The source tables stay."
            )
        was_installed = take_out(settings.conninfo, on_note=notes.append)
    click.echo(
        "Taken out; the source tables are as they were."
        if was_installed
        else "There was nothing to take out."
    )
    _tell(notes)


@click.command()
@click.option(
    "--keep-days",
    metavar="INTEGER",
    callback=whole_number(1, MAX_KEEP_DAYS),
    required=True,
    help="Raw rows younger than this stay.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def retention(*, keep_days: int, yes: bool) -> None:
    """Drop old raw rows; the figures stay.

    On a terminal it says what goes, and asks first. Where standard input is no terminal, as under a
    timer, it does not ask.
    """
    from fiml.database import Database
    from fiml.sessions.maintenance import Retention, drop_old_rows, find_old_rows

    async def look(settings: Settings) -> Retention:
        async with Database(settings) as database:
            return await find_old_rows(database, keep_days)

    async def drop(settings: Settings) -> Retention:
        async with Database(settings) as database:
            return await drop_old_rows(database, keep_days)

    with connected_settings() as settings:
        if not yes and is_terminal(sys.stdin):
            found = run_async(look(settings))
            if found.rows:
                _confirm(
                    f"Drop {counted(found.rows, 'raw row')} from before "
                    f"{found.horizon:%Y-%m-%d} (UTC) in {_place(settings)}? The figures stay; the "
                    "rows cannot be brought back."
                )
        with reporting("Dropping old rows"):
            done = run_async(drop(settings))
    if done.horizon is None:
        click.echo("Nothing was dropped.")
        return
    removed = "No row was removed" if not done.rows else f"{counted(done.rows, 'row')} removed"
    click.echo(
        f"{removed}. Raw rows are kept from {done.horizon:%Y-%m-%d} (UTC) on; before it, whole "
        "days remain."
    )


@click.command("erase-user")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_user(*, yes: bool) -> None:
    """Take a person out of tables and figures, for good.

    The user's id is asked for, or read from standard input, so that no shell history and no list of
    processes keeps it.
    """
    from fiml.database import Database
    from fiml.errors import BuildError
    from fiml.sessions.maintenance import erase_user as erase
    from fiml.sessions.maintenance import erasure_receipt
    from fiml.warehouse.erasure import fold_erasures

    if is_terminal(sys.stdin):
        user_id = click.prompt("User id", hide_input=True)
    else:
        user_id = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        if not yes:
            raise WrongUsage("an id from standard input needs --yes: there is nobody to ask")

    async def take_out(settings: Settings) -> int:
        async with Database(settings) as database:
            return await erase(database, user_id)

    async def look(settings: Settings) -> dict[str, int]:
        async with Database(settings) as database:
            return await erasure_receipt(database, user_id)

    with connected_settings() as settings:
        if not yes:
            _confirm(f"Erase every row of this user in {_place(settings)}? This cannot be undone.")
        with reporting("Erasing") as report:
            rows = run_async(take_out(settings))
            report("Folding")
            # Without a checkout, or with marts that were never built, that is left to a build.
            with suppress(BuildError):
                fold_erasures(settings)
            receipt = run_async(look(settings))
    click.echo(
        f"{counted(rows, 'row')} {'was' if rows == 1 else 'were'} removed."
        if rows
        else "This user had no rows; later ones will be refused. Was it the wrong id? "
        "`select analytics.forget_erasure('<user id>')` in the database admits it again."
    )
    for place, remaining in receipt.items():
        click.echo(f"  {place:<26}{remaining:>8} left")
    click.echo(
        "The next build or fold takes out what is left."
        if any(receipt.values())
        else "Nothing is left of this user."
    )


def _tell(notes: list[str]) -> None:
    for note in notes:
        click.echo(note, err=True)


def _confirm(question: str) -> None:
    if not click.confirm(question, err=True):
        raise Failure("nothing was done")


def _place(settings: Settings) -> str:
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(settings.conninfo)
    name = given.get("dbname") or "the user's own database"
    return printable(f"{name} on {given.get('host') or 'the default server'}")
