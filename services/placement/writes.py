"""Writes: how many go on for each tenant, and that none begins where the tenant's data is not, or not any more.

A tenant's data is moved while servers run. Then its writes stop everywhere for a moment: each process refuses new ones, and
says when those that had begun are over. A process that has lost touch with the control plane would not hear of it: so it
writes only while its lease lasts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hooks.errors import Unavailable
from hooks.tenant import Placement

RETRY_AFTER = 1
"""Seconds after which a client had better try again what was refused because the app is on the move."""


def migrating() -> Unavailable:
    """The error for a write to a tenant that is on the move."""
    return Unavailable(
        "The app's data is being moved: it can be read, and written again in a moment",
        data={"reason": "TenantMigrating", "retry_after": RETRY_AFTER},
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tenant's data is, as of an epoch, and whether it is still there to be written."""

    placement: Placement
    epoch: int
    is_frozen: bool = False


class Writes:
    """The gate through which every write to tenants' records goes; one for a process."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._places: dict[str, Place] = {}
        self._drained: dict[str, asyncio.Event] = {}
        self._until: float | None = None

    @property
    def places(self) -> Mapping[str, Place]:
        """Where the data of those tenants is that moved while this process lives: newer than any snapshot of them."""
        return self._places

    def hold(self, until: float) -> None:
        """Lets writes begin until this moment of the monotonic clock. A process that never says so has no such bound."""
        self._until = until

    @property
    def is_held(self) -> bool:
        """Whether this process is in touch with the control plane, and so may write."""
        return self._until is None or time.monotonic() <= self._until

    def place(self, tenant_id: str, place: Place) -> bool:
        """Takes note of where a tenant's data is from now on; whether that is news."""
        known = self._places.get(tenant_id)
        if known is not None and known.epoch > place.epoch:
            return False
        self._places[tenant_id] = place
        return True

    def one(self, tenant_id: str, placement: Placement) -> Write:
        """Goes around a write to this placement."""
        return Write(self, tenant_id, placement)

    def begin(self, tenant_id: str, placement: Placement) -> None:
        """See `Write`."""
        place = self._places.get(tenant_id)
        if place is not None and (place.is_frozen or place.placement != placement):
            raise migrating()
        if not self.is_held:
            raise Unavailable("The server has lost touch with its control plane, and writes nothing meanwhile")
        self._running[tenant_id] = self._running.get(tenant_id, 0) + 1

    def end(self, tenant_id: str) -> None:
        """See `Write`."""
        left = self._running[tenant_id] - 1
        if left:
            self._running[tenant_id] = left
            return
        del self._running[tenant_id]
        waiting = self._drained.pop(tenant_id, None) if self._drained else None
        if waiting is not None:
            waiting.set()

    async def drained(self, tenant_id: str) -> None:
        """Returns when no write of the tenant goes on that had begun before."""
        if tenant_id in self._running:
            await self._drained.setdefault(tenant_id, asyncio.Event()).wait()


class Write:
    """`with writes.one(...)`: a write that goes on.

    Raises:
        Unavailable: the tenant's data is on the move or elsewhere, or this process has lost touch.
    """

    __slots__ = ("_placement", "_tenant_id", "_writes")

    def __init__(self, writes: Writes, tenant_id: str, placement: Placement) -> None:
        self._writes = writes
        self._tenant_id = tenant_id
        self._placement = placement

    def __enter__(self) -> None:
        self._writes.begin(self._tenant_id, self._placement)

    def __exit__(self, *_: object) -> None:
        self._writes.end(self._tenant_id)
