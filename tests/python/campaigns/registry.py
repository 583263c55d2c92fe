"""All campaigns by their names, in the order of the page."""

from __future__ import annotations

from campaigns import (
    archivers,
    builds,
    histories,
    malformed,
    readers,
    reconciliation,
    servers,
    soak,
)

__all__ = ["CAMPAIGNS"]

CAMPAIGNS = {
    campaign.name: campaign
    for campaign in (
        archivers.KILLED,
        archivers.KILLED_BETWEEN_STEPS,
        archivers.CROWD,
        builds.KILLED,
        builds.OVERLAPPING,
        servers.SERVER_KILLED,
        servers.BACKENDS_TERMINATED,
        servers.DISK_FULL,
        readers.CONCURRENT,
        histories.RANDOM,
        malformed.ROWS,
        reconciliation.SEEDED,
        reconciliation.CLEAN,
        soak.SOAK,
    )
}
