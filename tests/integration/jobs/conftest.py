"""A queue over a real database, with tenants that a test makes as it likes.

The queue is the control plane's, wherever apps are: `--model` is nothing to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from hooks.tenant import Tenant, tenant_scope
from services.control.jobs import MongoJobStore
from services.database.deployment import Deployment
from services.jobs.model import ENDED, Job
from services.jobs.queue import Jobs
from services.jobs.worker import Worker
from tests.support.client import until

CONTROL_PLANE = "control_plane"


class House:
    """A queue, its tenants, and the workers of its nodes."""

    def __init__(self, deployment: Deployment, database: str) -> None:
        self.database = database
        self.deployment = deployment
        self.store = MongoJobStore(deployment, database=database)
        self.jobs = Jobs(self.store, control_plane=CONTROL_PLANE)
        self.tenants: dict[str, Tenant] = {
            CONTROL_PLANE: Tenant(CONTROL_PLANE, "Control plane", is_control_plane=True),
            "acme": Tenant("acme", "Acme"),
            "globex": Tenant("globex", "Globex"),
        }
        self.permissions: set[str] = set()
        self._workers: list[Worker] = []

    async def resolve(self, id: str) -> Tenant | None:
        return self.tenants.get(id)

    async def holds(self, tenant: Tenant, actor: str, permission: str, org_id: str | None) -> bool:
        return permission in self.permissions

    async def all(self) -> AsyncIterator[Tenant]:
        for tenant in [*self.tenants.values()]:
            yield tenant

    def set(self, id: str, **changes: Any) -> None:
        self.tenants[id] = replace(self.tenants[id], **changes)

    def node(self, jobs: Jobs | None = None, **options: Any) -> Worker:
        """A worker that is not started, quick to notice things."""
        worker = Worker(jobs or self.jobs, self.resolve, self.holds, **{"poll": 0.02, "delay": 0.05, **options})
        self._workers.append(worker)
        return worker

    async def enqueue(self, id: str, name: str, payload: Any = None, **options: Any) -> str:
        with tenant_scope(self.tenants[id]):
            return await self.jobs.enqueue(name, payload, **options)

    async def document(self, id: str, job: str) -> dict[str, Any]:
        found = await self.store.get(id, job)
        assert found is not None
        return found

    async def ended(self, id: str, job: str) -> dict[str, Any]:
        """The job when it has ended."""
        return await self.until(id, job, lambda found: found["state"] in ENDED)

    async def until(self, id: str, job: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async def holds() -> bool:
            return wanted(await self.document(id, job))

        await until(holds, 10)
        return await self.document(id, job)

    async def close(self) -> None:
        for worker in self._workers:
            await worker.stop(grace=0)


@pytest.fixture
async def house(mongod: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr("services.jobs.model.FIRST_PAUSE", 0.02)
    deployment = Deployment(mongod)
    await deployment.open()
    database = f"t{uuid4().hex[:12]}"
    house = House(deployment, database)
    await house.store.prepare()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(deployment.close)
        stack.push_async_callback(deployment.client.drop_database, f"{database}_control")
        stack.push_async_callback(house.close)
        yield house


async def nothing(job: Job) -> None:
    """A job that is done at once."""


LATER = timedelta(hours=1)
