"""The sync, put together: the hooks of the synced services, the service `sync-status`, the nightly look, and the worker."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from typing import Final

import structlog

from hooks.context import Record
from hooks.tenant import Tenant
from server.backend import Backend
from server.people import QUIET
from server.telemetry.metrics import Metrics
from services.application import Application
from services.control.services import sync_status
from services.control.sync.hooks import sync_hooks
from services.control.sync.model import ORDER, TYPES
from services.jobs.model import Job
from services.jobs.queue import Jobs

log = structlog.get_logger()

RUN: Final = "sync-run"
NIGHTLY: Final = "17 3 * * *"
LONGEST_RUN: Final = 3600.0


class Syncing:
    """Registers the service; `start` begins to bring changes to the tenants."""

    def __init__(self, app: Application, backend: Backend, jobs: Jobs, metrics: Metrics) -> None:
        self._app = app
        self._jobs = jobs
        self._sync = backend.sync
        self._sync.on_change(self._tell)
        for entity in ORDER:
            offered = app.service(entity.paths[0])
            offered.add_hooks(sync_hooks(self._sync, offered.emit))
        service = sync_status.SyncStatusService(self._sync, self._begin)
        app.use(sync_status.PATH, service, methods=sync_status.METHODS, rules=sync_status.RULES, hooks=QUIET)
        jobs.handle(RUN, self._work, control=True, timeout=LONGEST_RUN)
        jobs.schedule("sync", NIGHTLY, RUN)
        metrics.gauge(
            "sync_oldest_seconds",
            "For how long the oldest change in the control plane has not reached every app.",
            lambda: self._sync.worker.age,
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Sees to types that are not synced any more, and begins."""
        await self._see_to_switches()
        await self._sync.worker.start()
        stack.push_async_callback(self._sync.worker.stop)

    async def _see_to_switches(self) -> None:
        """What becomes of the copies of types that were synced before (SY-14)."""
        switches = self._sync.switches
        # With the roles goes what they allow.
        off = [name for name in TYPES if not switches.has(name) and (name != "role_permissions" or switches.roles)]
        left = [name for name in off if await self._sync.state.count({"entity": name, "status": "synced"})]
        if not left:
            return
        log.warning("sync: copies are left of what is not synced any more", types=left, on_disable=switches.on_disable)
        if switches.on_disable != "keep_protected":
            for name in left:
                run = await self._sync.runs.begin(f"off-{name}-{uuid.uuid4().hex}", name)
                await self._begin(run["_id"])

    async def _begin(self, run: str) -> None:
        await self._jobs.enqueue_control(RUN, await self._sync.targets.control_plane(), {"run": run})

    async def _work(self, job: Job) -> None:
        """A run that was asked for, or that of the night, which bears the name of its job: who takes it up goes on with it."""
        run = job.payload.get("run")
        if run is None:
            run = (await self._sync.runs.begin(job.id))["_id"]
        await self._sync.runs.work(run)

    async def _tell(self, target: Tenant, collection: str, event: str, record: Record) -> None:
        """An event of the tenant's own service, in its own channels (SY-13)."""
        await self._app.service(TYPES[collection].paths[0]).emit(event, record, tenant=target)
