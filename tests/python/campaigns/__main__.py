"""`python -m campaigns`: play campaigns to their full length, in as many sittings as it takes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from time import monotonic

import click
from campaigns.campaign import Progress, play_round
from campaigns.ground import own_ground
from campaigns.registry import CAMPAIGNS
from campaigns.report import write_page

_ROOT = Path(__file__).resolve().parents[3]
_MINUTE = 60.0


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(CAMPAIGNS)))
@click.option("--rounds", type=click.IntRange(1), help="In all; default: the campaign's own.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after as long.")
@click.option("--seed", default=1, show_default=True, help="Another seed begins anew.")
@click.option("--only", type=click.IntRange(0), help="Play this round alone, and write nothing.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=_ROOT / "docs",
    help="Where reliability.md and reliability/*.json are; default: docs.",
)
def main(
    names: tuple[str, ...],
    rounds: int | None,
    minutes: float | None,
    seed: int,
    only: int | None,
    output: Path,
) -> None:
    """Play campaigns (default: all), go on where an earlier sitting stopped, and write it down."""
    deadline = float("inf") if minutes is None else monotonic() + minutes * _MINUTE
    violations = 0
    # That connections break is what is being done to them.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    with own_ground() as ground:
        for name in names or CAMPAIGNS:
            campaign = CAMPAIGNS[name]
            if only is not None:
                events = play_round(campaign, ground, seed, only)
                click.echo(f"{name}, round {only}: {dict(events)}")
                continue
            if not campaign.is_possible():
                click.echo(f"{name}: not possible here", err=True)
                continue
            path = output / "reliability" / f"{name}.json"
            progress = Progress.read(path, seed)
            wanted = rounds or campaign.rounds
            for violation in progress.play(campaign, ground, path, wanted, deadline):
                click.echo(f"{name}, round {violation['round']}: {violation['what']}", err=True)
            violations += len(progress.violations)
            click.echo(
                f"{name}: {progress.played} of {wanted} rounds, "
                f"{len(progress.violations)} violations"
            )
    if only is None:
        write_page(output)
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
