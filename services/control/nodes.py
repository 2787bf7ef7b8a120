"""Nodes: the processes that serve, each with its heartbeat, and what each of them has taken note of.

A node renews its lease with every beat. One that cannot do so does not write to tenants' data any more (`Writes.hold`), so that
who moves data need not wait for it: after the lease, and the time that a command may take, it is as good as gone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo import IndexModel

from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.tasks import end

log = structlog.get_logger()

COLLECTION = "nodes"
BEAT = 1.0
"""Seconds between two beats."""
LEASE = 10.0
"""Seconds after a beat for which a node may write."""
LAST_COMMAND = 5.0
"""Seconds that a write may take which began within the lease."""
KEPT = 60
"""Seconds after which the database forgets a node that is silent."""

DEAF = 5.0
"""Seconds of silence after which nobody waits for a node to take note of another one."""

MOST_ACKNOWLEDGED = 1000
"""Tenants of which a node says what is in force there: those that it heard of last."""


@dataclass(frozen=True, slots=True)
class Node:
    """A process as it was heard last."""

    id: str
    silent: float
    """Seconds since its last beat, by the database's clock."""
    acknowledged: dict[str, int]
    """The epochs of tenants on the move that are in force there."""
    lease: float = LEASE

    @property
    def is_fenced(self) -> bool:
        """Whether it is certain that the node writes nothing any more."""
        return self.silent > self.lease + LAST_COMMAND


class Nodes:
    """The nodes of a control plane; this process is one of them between `join` and `leave`."""

    def __init__(self, deployment: Deployment, *, database: str, lease: float = LEASE) -> None:
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._deployment = deployment
        self._control = control_database(database)
        self._lease = lease
        self._acknowledged: dict[str, int] = {}
        self._hold: Callable[[float], None] = lambda until: None
        self._review: Callable[[], Awaitable[None]] | None = None
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._listens = False
        self.peers: frozenset[str] = frozenset()
        """The other nodes that listen to events, as of the last beat."""

    async def prepare(self) -> None:
        """Creates the index by which silent nodes are forgotten."""
        await ensure_indexes(self._records, IndexModel([("seen", 1)], name="silent", expireAfterSeconds=KEPT))

    async def join(self, hold: Callable[[float], None], review: Callable[[], Awaitable[None]]) -> None:
        """Begins to beat; `hold` is told until when this process may write.

        Before it is told so for the first time, and whenever the lease was over in between, `review` has to learn what has
        happened meanwhile: nobody has waited for this process.

        Raises:
            FeathersError: the database refuses the first beat.
        """
        self._hold, self._review = hold, review
        await self._beat()
        self._task = asyncio.create_task(self._go_on(), name="heartbeat")

    async def introduce(self) -> None:
        """Begins to listen to the events of other nodes, and returns when each of them knows of this one and sends them.

        Raises:
            FeathersError: the database cannot be asked.
        """
        self._listens = True
        await self._beat()
        while self.peers and not await self._is_known():
            await asyncio.sleep(BEAT / 10)
            await self._beat()

    async def leave(self) -> None:
        """Ends the heartbeat; others need not wait for this process any more."""
        if self._task is None:
            return
        await end(self._task)
        self._task = None
        try:
            await self._records.delete_one({"_id": self.id})
        except DRIVER_ERRORS as error:
            log.warning("nodes: not signed off", error=type(error).__name__)

    async def acknowledge(self, tenant_id: str, epoch: int) -> None:
        """Says that this epoch of a tenant is in force here, without waiting for the next beat."""
        self._acknowledged[tenant_id] = max(epoch, self._acknowledged.pop(tenant_id, 0))
        while len(self._acknowledged) > MOST_ACKNOWLEDGED:
            del self._acknowledged[next(iter(self._acknowledged))]
        if self._task is not None:
            await self._beat()

    async def all(self) -> list[Node]:
        """Every node that has not been silent for long.

        Raises:
            FeathersError: the database cannot be asked.
        """
        age = {"$dateDiff": {"startDate": "$seen", "endDate": "$$NOW", "unit": "millisecond"}}
        try:
            cursor = await self._records.aggregate([{"$set": {"age": age}}], maxTimeMS=2000)
            return [
                Node(found["_id"], found["age"] / 1000, found.get("acknowledged", {}), found.get("lease", LEASE))
                async for found in cursor
            ]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._beat()
            except Exception as error:
                log.warning("nodes: no heartbeat", error=type(error).__name__)

    async def _beat(self) -> None:
        # Counted from before the command: it may have been done at any moment since.
        began = time.monotonic()
        has_lapsed = began > self._until
        async with self._turn:
            if self._listens:
                self.peers = await self._look_for_peers()
            change = {
                "seen": "$$NOW",
                "lease": self._lease,
                "acknowledged": {"$literal": dict(self._acknowledged)},
                "listens": self._listens,
                "peers": {"$literal": [*self.peers]},
            }
            try:
                await self._records.update_one({"_id": self.id}, [{"$set": change}], upsert=True)
            except DRIVER_ERRORS as error:
                raise from_driver(error) from error
        if has_lapsed and self._review is not None:
            await self._review()
        self._until = max(self._until, began + self._lease)
        self._hold(self._until)

    async def _look_for_peers(self) -> frozenset[str]:
        try:
            found = await self._records.find(self._others(KEPT), {"_id": 1}, max_time_ms=2000).to_list()
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return frozenset(other["_id"] for other in found)

    async def _is_known(self) -> bool:
        """Whether every other node that listens, and is alive, has taken note of this one."""
        strangers = {**self._others(DEAF), "peers": {"$ne": self.id}}
        try:
            return await self._records.find_one(strangers, {"_id": 1}, max_time_ms=2000) is None
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    def _others(self, silence: float) -> dict[str, Any]:
        """The other nodes that listen and have been heard of within so many seconds."""
        recent = {"$gt": ["$seen", {"$subtract": ["$$NOW", round(silence * 1000)]}]}
        return {"_id": {"$ne": self.id}, "listens": True, "$expr": recent}

    @property
    def _records(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]
