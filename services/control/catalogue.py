"""The catalogue: every tenant that is in use, in memory, and fresh within seconds of a change anywhere.

One load per tenant at a time, however many wait for it; unknown ids are remembered for a moment; a change stream tells of
changes, and while there is none, every entry is looked up again after a few seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from hooks.errors import Unavailable
from hooks.tenant import TENANT_ID, Tenant
from services.control.tenants import COLLECTION, Tenants, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS

log = structlog.get_logger()

FRESH = 30.0
"""Seconds for which an entry is served without a look at the database, while the change stream is up (+-20 %)."""
POLL = 5.0
"""The same while no change stream tells of changes."""
STALE = 300.0
"""Seconds for which an entry that cannot be looked up again is still served."""
UNKNOWN = 5.0
"""Seconds for which an unknown id is not asked for again."""
MOST_UNKNOWN = 10_000

Listener = Callable[[Tenant], Awaitable[None] | None]


@dataclass(slots=True)
class _Entry:
    tenant: Tenant
    loaded: float
    fresh_for: float


class Catalogue:
    """Tenants by id."""

    def __init__(self, tenants: Tenants, deployment: Deployment, *, database: str) -> None:
        self._tenants = tenants
        self._deployment = deployment
        self._control = control_database(database)
        self._entries: dict[str, _Entry] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._origins: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._loads: dict[str, asyncio.Task[Tenant | None]] = {}
        self._listeners: list[Listener] = []
        self._watching = False
        self._watcher: asyncio.Task[None] | None = None

    def on_change(self, listener: Listener) -> None:
        """Calls `listener` with each tenant whose entry changed, while it is in use here."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begins to watch for changes."""
        self._watcher = asyncio.create_task(self._watch(), name="catalogue")

    async def stop(self) -> None:
        """Ends the watch."""
        for task in [self._watcher, *self._loads.values()]:
            while task is not None and not task.done():
                # The driver can swallow a cancellation while it opens a connection.
                task.cancel()
                await asyncio.wait([task], timeout=0.1)

    async def load_all(self) -> None:
        """Takes every tenant into memory, so that the first calls find them there.

        Raises:
            Unavailable: the database cannot be asked.
        """
        now = time.monotonic()
        async for tenant in self._tenants.all():
            self._entries.setdefault(tenant.id, _Entry(tenant, now, FRESH * random.uniform(0.8, 1.2)))

    def known(self) -> list[str]:
        """The ids of the tenants in memory."""
        return [*self._entries]

    def peek(self, id: str) -> Tenant | None:
        """The tenant as last seen, without any input or output; None also when it was never asked for."""
        entry = self._entries.get(id)
        return entry.tenant if entry else None

    async def get(self, id: str) -> Tenant | None:
        """The tenant, or None when there is none with this id.

        Raises:
            Unavailable: it is not known yet and the database cannot be asked, or has not been reachable for too long.
        """
        now = time.monotonic()
        entry = self._entries.get(id)
        if entry is not None:
            age = now - entry.loaded
            if age < (entry.fresh_for if self._watching else POLL):
                return entry.tenant
            if age < STALE:
                self._load(id)
                return entry.tenant
            return await asyncio.shield(self._load(id))
        if not TENANT_ID.fullmatch(id):
            return None
        if self._unknown.get(id, 0.0) > now:
            return None
        return await asyncio.shield(self._load(id))

    async def allows_origin(self, origin: str) -> bool:
        """Whether any tenant lists this origin; remembered for some seconds."""
        now = time.monotonic()
        known = self._origins.get(origin)
        if known is None or known[1] < now:
            known = (await self._tenants.allow_origin(origin), now + UNKNOWN)
            self._origins[origin] = known
            while len(self._origins) > MOST_UNKNOWN:
                self._origins.popitem(last=False)
        return known[0]

    def _load(self, id: str) -> asyncio.Task[Tenant | None]:
        task = self._loads.get(id)
        if task is None:
            task = self._loads[id] = asyncio.create_task(self._look_up(id))
            task.add_done_callback(lambda done: self._forget_load(id, done))
        return task

    def _forget_load(self, id: str, task: asyncio.Task[Tenant | None]) -> None:
        del self._loads[id]
        if not task.cancelled() and task.exception() is not None:
            log.warning("catalogue: tenant not loaded", tenant=id, error=type(task.exception()).__name__)

    async def _look_up(self, id: str) -> Tenant | None:
        tenant = await self._tenants.get(id)
        now = time.monotonic()
        if tenant is None:
            self._entries.pop(id, None)
            self._unknown[id] = now + UNKNOWN
            self._unknown.move_to_end(id)
            while len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            return None
        self._unknown.pop(id, None)
        before = self._entries.get(id)
        if before is not None and before.tenant.epoch > tenant.epoch:
            return before.tenant
        changed = before is None or before.tenant.epoch != tenant.epoch
        kept = tenant if changed or before is None else before.tenant
        self._entries[id] = _Entry(kept, now, FRESH * random.uniform(0.8, 1.2))
        if changed and before is not None:
            await self._tell(tenant)
        return kept

    async def _tell(self, tenant: Tenant) -> None:
        for listener in self._listeners:
            try:
                outcome = listener(tenant)
                if outcome is not None:
                    await outcome
            except Exception:
                log.exception("catalogue listener failed", tenant=tenant.id)

    async def _watch(self) -> None:
        """Follows the change stream for ever; without one, `get` looks entries up again by itself."""
        while True:
            try:
                collection = self._deployment.client[self._control][COLLECTION]
                pipeline = [{"$project": {"_id": 1, "documentKey": 1, "operationType": 1}}]
                async with await collection.watch(pipeline, max_await_time_ms=1000) as stream:
                    for id in [*self._entries]:
                        self._load(id)
                    self._unknown.clear()
                    self._watching = True
                    async for change in stream:
                        key = change.get("documentKey")
                        if key is None:
                            break
                        self._unknown.pop(key["_id"], None)
                        if key["_id"] in self._entries:
                            self._load_again(key["_id"])
            except (*DRIVER_ERRORS, Unavailable) as error:
                log.warning("catalogue: no change stream, polling instead", error=type(error).__name__)
            finally:
                self._watching = False
            await asyncio.sleep(1.0)

    def _load_again(self, id: str) -> None:
        """Looks up what a change is about; a load that began before the change must not be the last."""
        running = self._loads.get(id)
        if running is None:
            self._load(id)
        else:
            running.add_done_callback(lambda _: self._load(id))
