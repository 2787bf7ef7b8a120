"""The clock: at each tick of a schedule it makes one job for every tenant that is served, however many nodes do so at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from datetime import datetime, timedelta

import structlog

from hooks.tenant import Tenant
from services.jobs.model import Schedule
from services.jobs.queue import Jobs
from services.tasks import end

log = structlog.get_logger()

LONGEST_SLEEP = 30.0
"""Seconds after which the time is looked at again: clocks are set, and machines sleep."""
LEEWAY = timedelta(minutes=10)
"""By how much the clocks of two databases that follow each other may differ: a last tick beyond it comes from a wrong one."""

Tenants = Callable[[], AsyncIterator[Tenant]]


class Clock:
    """Sees to the schedules of `jobs`, by the database's time, which all nodes share.

    A tick that no node was there for is made up for once, the latest one only.
    """

    def __init__(self, jobs: Jobs, tenants: Tenants) -> None:
        self._jobs = jobs
        self._tenants = tenants
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to watch the time."""
        self._task = asyncio.create_task(self._run(), name="job schedules", context=Context())

    async def stop(self) -> None:
        """Ends the watch."""
        if self._task is not None:
            await end(self._task)

    async def see_to(self, schedule: Schedule, now: datetime) -> datetime:
        """Makes the jobs of the latest tick that has come and was not seen to; the tick that comes next.

        Raises:
            FeathersError: the database cannot be asked; the tick is seen to later.
        """
        last = await self._jobs.store.last_tick(schedule.name, now)
        if last > now + LEEWAY:
            # The schedule would be silent until then.
            log.warning("jobs: a schedule was ahead of its time", schedule=schedule.name, by=str(last - now))
            await self._jobs.store.set_back(schedule.name, last, now)
            last = now
        tick = schedule.after(last)
        if tick > now:
            return tick
        tick = max(tick, schedule.latest(now))
        await self._make(schedule, tick)
        # Only now: whoever dies in between leaves the tick to others, and what was made is not made again.
        await self._jobs.store.ticked(schedule.name, tick)
        return schedule.after(tick)

    async def _make(self, schedule: Schedule, tick: datetime) -> None:
        is_control = self._jobs.handlers[schedule.handler].control
        async for tenant in self._tenants():
            if is_control != (tenant.id == self._jobs.control_plane) or tenant.status != "ready":
                continue
            run_at = tick + timedelta(seconds=schedule.jitter * _place(tenant.id, schedule.name))
            id = f"{tenant.id}:{schedule.name}:{tick:%Y%m%dT%H%M%S}"
            document = self._jobs.document(tenant, schedule.handler, schedule.payload, run_at, id)
            await self._jobs.add(tenant, {**document, "key": schedule.name})

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began, wait = clock(), LONGEST_SLEEP
            try:
                now = await self._jobs.store.now()
            except Exception as error:
                log.warning("jobs: the time is not known", error=type(error).__name__)
                wait = 1.0
            else:
                for schedule in [*self._jobs.schedules.values()]:
                    wait = min(wait, await self._seconds_until_next(schedule, now))
            await asyncio.sleep(max(began + wait - clock(), 0.01))

    async def _seconds_until_next(self, schedule: Schedule, now: datetime) -> float:
        """Sees to a schedule; in how many seconds it has to be looked at again."""
        try:
            return (await self.see_to(schedule, now) - now).total_seconds()
        except Exception as error:
            # Whatever it is: without this task no schedule of any app would ever come again.
            log.warning("jobs: a tick waits", schedule=schedule.name, error=type(error).__name__)
            return 1.0


def _place(app_id: str, schedule: str) -> float:
    """Where in the jitter a tenant stands, 0 to 1: always the same, so that its jobs stay a period apart."""
    digest = hashlib.blake2b(f"{schedule}:{app_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32
