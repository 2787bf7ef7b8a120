"""Background work: jobs, who does them here, their schedules, and the service that shows them."""

from __future__ import annotations

from contextlib import AsyncExitStack

from server.backend import Backend
from server.people import QUIET, People
from services.application import Application
from services.control.catalogue import Catalogue
from services.jobs.clock import Clock
from services.jobs.queue import Jobs
from services.jobs.service import JOBS_RULES, METHODS, PATH, JobsService
from services.jobs.worker import Worker


class Background:
    """Registers the service `jobs`; `start` begins to work."""

    def __init__(self, app: Application, backend: Backend, jobs: Jobs, *, catalogue: Catalogue, people: People) -> None:
        self.worker = Worker(jobs, catalogue.get, people.holds)
        self.clock = Clock(jobs, backend.tenants.all)
        service = app.use(PATH, JobsService(jobs), methods=METHODS, rules=JOBS_RULES, hooks=QUIET)
        # Nothing of an app is purged before all nodes have said that they do nothing for it any more.
        backend.moving.on_move(self.worker.leave)
        jobs.on_change(lambda tenant, event, job: service.emit(event, job, tenant=tenant))

    async def start(self, stack: AsyncExitStack) -> None:
        """Begins to do jobs, and to watch the time."""
        await self.worker.start()
        stack.push_async_callback(self.worker.stop)
        await self.clock.start()
        stack.push_async_callback(self.clock.stop)
