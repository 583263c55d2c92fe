"""The page's table, from the results that campaigns left."""

from __future__ import annotations

import json
from pathlib import Path

from campaigns.campaign import Campaign
from campaigns.registry import CAMPAIGNS

__all__ = ["table", "write_page"]

BEGIN = "<!-- campaigns: written by `make campaigns` -->"
END = "<!-- end of campaigns -->"


def table(results: Path) -> str:
    """The campaigns, what each disturbs, and how far each has come."""
    lines = [
        "| campaign | disturbance | rounds / played | in `make test` | violations | seed, date |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_line(campaign, results / f"{name}.json") for name, campaign in CAMPAIGNS.items()]
    return "\n".join(lines)


def _line(campaign: Campaign, path: Path) -> str:
    known = json.loads(path.read_text()) if path.exists() else None
    cells = [
        f"`{campaign.name}`",
        campaign.disturbance,
        f"{campaign.rounds:,} / {known['played'] if known else 0:,}",
        f"{campaign.short:,}",
        str(len(known["violations"])) if known else "",
        f"{known['seed']}, {known['ended_at'][:10]}" if known else "",
    ]
    return f"| {' | '.join(cells)} |"


def write_page(docs: Path) -> None:
    """Put the table into reliability.md; what stands around it stays."""
    page = docs / "reliability.md"
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(docs / 'reliability')}\n{END}{after}")
