"""The arithmetic of pools: how many connections a server may get from all processes, and whether it can take them (PO-1, PO-4).

A client has a pool for each server of its cluster, and two connections more for watching it. So the bound is
`processes x sum over clients (servers x (pool + 2))`; tenants that share a cluster's credential share a client, and cost none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS

log = structlog.get_logger()

WATCHING = 2
"""Connections of a client to each server besides its pool."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A client that a process may have: at most so many connections to each of so many servers."""

    size: int
    servers: int = 1


@dataclass(frozen=True, slots=True)
class Room:
    """What a cluster may be asked for, and what it has."""

    cluster: str
    own: int
    """Connections to one server that this process alone may open."""
    all: int
    """The same for all processes."""
    available: int | None
    """What the server still takes, besides what this process has now; None when it does not tell."""

    @property
    def is_too_small(self) -> bool:
        """Whether not even this process can have what it may ask for."""
        return self.available is not None and self.own > self.available

    @property
    def is_tight(self) -> bool:
        """Whether all processes together may ask for more than there is."""
        return self.available is not None and self.all > self.available


@dataclass(slots=True)
class Usage:
    """The connections of this process to all servers of a cluster, by all of its clients."""

    open: int = 0
    """Besides those that watch the servers."""
    most: int = 0
    """By the arithmetic above, with those that watch."""


def usage(clients: Iterable[tuple[str, Deployment]]) -> dict[str, Usage]:
    """By cluster, of open clients that are given with the cluster's name."""
    found: defaultdict[str, Usage] = defaultdict(Usage)
    for cluster, deployment in clients:
        size, servers = deployment.pools
        found[cluster].open += deployment.connections
        found[cluster].most += bound(1, [Pool(size, servers)])
    return found


def bound(processes: int, pools: Iterable[Pool]) -> int:
    """Connections to all servers, at most."""
    return processes * sum(pool.servers * (pool.size + WATCHING) for pool in pools)


async def room(cluster: str, deployment: Deployment, *, size: int, processes: int) -> Room:
    """How much a cluster has for the clients of so many processes."""
    own = bound(1, [Pool(size)])
    available: int | None = None
    try:
        status: Any = await deployment.client.admin.command("serverStatus", maxTimeMS=2000)
        connections = status["connections"]
        available = int(connections["available"]) + int(connections["current"])
    except DRIVER_ERRORS as error:
        log.warning(
            "a cluster does not tell how many connections it takes", cluster=cluster, error=type(error).__name__
        )
    return Room(cluster, own, own * processes, available)
