"""The pools of this process, so that who watches it can say how full they are."""

from __future__ import annotations

from typing import Protocol
from weakref import ReferenceType, ref

__all__ = ["Pool", "close_pool", "open_pool", "open_pools"]


class Pool(Protocol):
    """What is known of a pool."""

    @property
    def connections_in_use(self) -> int:
        """Connections that calls hold now."""

    @property
    def connections_max(self) -> int:
        """Connections that calls can hold at once."""


# Not a WeakSet: that cannot be copied while another thread adds to it.
_pools: set[ReferenceType[Pool]] = set()


def open_pool(pool: Pool) -> None:
    """Count a pool in, until it is closed or nobody has it any more."""
    _pools.add(ref(pool, _pools.discard))


def close_pool(pool: Pool) -> None:
    """Count a pool out."""
    _pools.discard(ref(pool))


def open_pools() -> list[Pool]:
    """The pools that are open."""
    return [pool for known in tuple(_pools) if (pool := known()) is not None]
