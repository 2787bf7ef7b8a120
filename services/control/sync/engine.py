"""The engine: the parts of the sync, put together; what the server, the command line and the lifecycle share of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hooks.context import Record
from hooks.errors import Unavailable
from services.control.sagas import PROVISION, Sagas, Step, Work
from services.control.sync.copies import Copies, Tell
from services.control.sync.mending import Mending
from services.control.sync.model import Switches
from services.control.sync.outbox import Outbox, Told
from services.control.sync.permissions import PermissionSets
from services.control.sync.runs import Runs
from services.control.sync.state import ATTEMPTS, State, shown
from services.control.sync.targets import Targets
from services.control.sync.worker import AT_ONCE, SyncWorker
from services.database.deployment import Deployment
from services.isolation import Isolation
from services.protection import SyncCapability

LONGEST_WAIT: Final = 10.0
"""Seconds for which a caller waits until all tenants have what he has written."""
MOST_RESULTS: Final = 1000
_STEPS: Final = {
    "backfill:resource-servers": "resource_servers",
    "backfill:roles": "roles",
    "backfill:role-permissions": "role_permissions",
    "backfill:connections": "connections",
}


class Sync:
    """Copies what the control plane has of resource servers, roles, their permissions and connections to every tenant."""

    def __init__(
        self,
        deployment: Deployment,
        isolation: Isolation,
        outbox: Outbox,
        *,
        database: str,
        control_plane: str,
        switches: Switches | None = None,
        at_once: int = AT_ONCE,
        attempts: int = ATTEMPTS,
    ) -> None:
        """`outbox` is the journal of `isolation`."""
        self.outbox = outbox
        self.state = State(deployment, database=database, attempts=attempts)
        self.targets = Targets(deployment, database=database, control_plane=control_plane)
        self._copies = Copies(isolation, self.targets, self.state, SyncCapability(), switches or Switches())
        self.mending = Mending(self._copies, PermissionSets(isolation, self._copies))
        self.runs = Runs(deployment, isolation, self.mending, self.state, self.targets, database=database)
        self.worker = SyncWorker(isolation, self.mending, outbox, self.state, self.targets, at_once=at_once)

    @property
    def switches(self) -> Switches:
        """Which types are synced."""
        return self._copies.switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        self._copies.switches = switches

    def on_change(self, tell: Tell) -> None:
        """Has `tell` hear of every change of a copy that is made in this process."""
        self._copies.tell = tell

    async def prepare(self) -> None:
        """Brings about the indexes."""
        await asyncio.gather(self.outbox.prepare(), self.state.prepare())

    def hand_in(self, sagas: Sagas) -> None:
        """Adds the steps by which a new tenant gets its copies before it is ready (SY-11)."""
        sagas.add(PROVISION, *(Step(name, self._backfill(entity)) for name, entity in _STEPS.items()))

    def _backfill(self, entity: str) -> Callable[[Work], Awaitable[None]]:
        async def ensure(work: Work) -> None:
            account = await self.runs.backfill(work.tenant, entity)
            if not account.is_complete:
                raise Unavailable(f"Not all {entity.replace('_', ' ')} of the control plane could be copied")

        return ensure

    async def settled(self, told: Told) -> Sequence[Record]:
        """How each tenant took it, once all have, or the longest wait is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                await self.outbox.wait([*told.events])
        changes = [*dict.fromkeys(told.events.values())]
        chosen = {"$or": [{"entity": change.entity, "source_id": change.source_id} for change in changes]}
        names = ("target", "entity", "source_id", "status", "rev", "error")
        rows = await self.state.find(chosen, limit=MOST_RESULTS)
        return [{name: value for name, value in shown(row).items() if name in names} for row in rows]
