"""Moving: how this process keeps up with tenants whose data is moved, or that are taken out of service, by whichever process.

The catalogue says in `migration` how far a move is, and in `status` what is closed. Here it is heard by a change stream of its
own, which also looks at every such tenant whenever it begins anew: so nothing is missed, and a tenant that is not in use here
is heard of too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from hooks.errors import FeathersError, Unavailable
from hooks.tenant import Placement, Tenant
from services.control.nodes import Nodes
from services.control.snapshot import FROZEN, to_tenant
from services.control.tenants import COLLECTION, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.placement.writes import Place, Writes
from services.store import Document
from services.tasks import end

log = structlog.get_logger()

MOVED = {"migration": {"$exists": True}}
CLOSED = {"status": {"$in": ["suspended", "deleting"]}}
LATELY = timedelta(seconds=60)
"""How far back a node looks for tenants that were closed while it did not listen: longer than anybody waits for its word."""

Listener = Callable[[Tenant], Awaitable[None]]


class Moving:
    """Stops and starts the writes of tenants on the move, and tells the control plane what is in force here."""

    def __init__(self, deployment: Deployment, nodes: Nodes, writes: Writes, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)
        self._nodes = nodes
        self._writes = writes
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._ready = asyncio.Event()

    def on_move(self, listener: Listener) -> None:
        """Calls `listener` with each tenant that was heard of, before the control plane hears that it is in force here."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begins to listen, and returns when nothing that happens from now on will be missed.

        Raises:
            FeathersError: the database refuses.
        """
        await self._nodes.join(self._writes.hold, self._review)
        self._task = asyncio.create_task(self._follow(), name="moving")
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait((waiting, self._task), return_when=asyncio.FIRST_COMPLETED, timeout=10)
        if not waiting.done():
            waiting.cancel()
            raise Unavailable("The control plane's changes cannot be followed")

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            await end(self._task)
        for task in [*self._acting.values()]:
            await end(task)
        await self._nodes.leave()

    async def _follow(self) -> None:
        pipeline = [
            {
                "$match": {
                    "operationType": {"$in": ["insert", "update", "replace"]},
                    "$or": [
                        {f"fullDocument.{field}": asked for field, asked in one.items()} for one in (MOVED, CLOSED)
                    ],
                }
            }
        ]
        while True:
            try:
                options: dict[str, Any] = {"full_document": "updateLookup", "max_await_time_ms": 1000}
                async with await self._tenants.watch(pipeline, **options) as stream:
                    await self._review()
                    self._ready.set()
                    async for change in stream:
                        self._hear(change["fullDocument"])
            except (*DRIVER_ERRORS, FeathersError) as error:
                log.warning("moving: no change stream", error=type(error).__name__)
            await asyncio.sleep(0.5)

    async def _review(self) -> None:
        """Looks at every tenant that has ever moved: where it is now is not where some call believes it to be."""
        try:
            async for document in self._tenants.find(MOVED, {"placement": 1, "epoch": 1, "migration.phase": 1}):
                is_frozen = document["migration"]["phase"] == FROZEN
                self._writes.place(
                    document["_id"], Place(Placement(**document["placement"]), document["epoch"], is_frozen)
                )
            lately = {**CLOSED, "status_changed_at": {"$gte": datetime.now(UTC) - LATELY}}
            async for document in self._tenants.find({"$or": [{**MOVED, "status": "migrating"}, lately]}):
                self._hear(document)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    @property
    def _tenants(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]

    def _hear(self, document: Document) -> None:
        tenant = to_tenant(document)
        # Where a tenant's data is that never moved, its snapshots say.
        place = Place(tenant.placement, tenant.epoch, tenant.frozen)
        if "migration" not in document or self._writes.place(tenant.id, place):
            before = self._acting.get(tenant.id)
            task = self._acting[tenant.id] = asyncio.create_task(self._act(tenant, before), name="move")
            task.add_done_callback(lambda done: self._done(tenant.id, done))

    def _done(self, tenant_id: str, task: asyncio.Task[None]) -> None:
        if self._acting.get(tenant_id) is task:
            del self._acting[tenant_id]

    async def _act(self, tenant: Tenant, before: asyncio.Task[None] | None) -> None:
        """Brings a tenant's epoch into force here, after the one before it, and says so."""
        if before is not None:
            await asyncio.wait((before,))
        try:
            if tenant.frozen:
                await self._writes.drained(tenant.id)
            for listener in self._listeners:
                await listener(tenant)
            await self._nodes.acknowledge(tenant.id, tenant.epoch)
        except FeathersError as error:
            # Who waits for the word of this node goes on without it, or not at all.
            log.warning("moving: not acknowledged", tenant=tenant.id, error=type(error).__name__)
        except Exception:
            log.exception("moving: a change was not followed", tenant=tenant.id)
