"""The worker of a node: takes waiting jobs, one of each tenant in turn, and does them in the scope of their tenants."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant, tenant_scope
from services.jobs.model import GiveUp, Handler, Job, State, pause
from services.jobs.queue import Jobs
from services.store import Document
from services.tasks import end

log = structlog.get_logger()

POLL = 1.0
"""Seconds between two looks for jobs that other nodes have made, or whose time has come."""
LEASE = 60.0
"""Seconds after which a job goes to another node when its own is not heard of any more."""
DELAY = 15.0
"""Seconds until a job is looked at again whose tenant is not served at the moment."""
MOST_LOST = 5
"""Attempts, beyond those of its handler, that a job may lose with their nodes."""
LONGEST_REASON = 1_000
"""Characters of why a job failed."""
LEAVE = 2.0
"""Seconds that a handler has to end when it is cancelled; what does not is left alone."""
GRACE = 5.0
"""Seconds that running jobs have to end when the server stops; what does not is done again elsewhere."""

Resolve = Callable[[str], Awaitable[Tenant | None]]
Holds = Callable[[Tenant, str, str, str | None], Awaitable[bool]]
"""Whether somebody, by the id under which he called, holds a permission in a tenant now; in an organization, if it is named."""


class Endless(Exception):
    """The handler does not end, though it was cancelled."""


class Worker:
    """Does jobs until it is stopped."""

    def __init__(
        self,
        jobs: Jobs,
        resolve: Resolve,
        holds: Holds,
        *,
        at_once: int = 16,
        per_tenant: int = 4,
        poll: float = POLL,
        lease: float = LEASE,
        delay: float = DELAY,
    ) -> None:
        """At most `at_once` jobs run here, and `per_tenant` of one tenant; the times are in seconds."""
        self._jobs = jobs
        self._store = jobs.store
        self._resolve = resolve
        self._holds = holds
        self._at_once = at_once
        self._per_tenant = per_tenant
        self._poll = poll
        self._lease = lease
        self._delay = delay
        self._node = uuid.uuid4().hex
        self._running: dict[asyncio.Task[None], tuple[str, str]] = {}
        """The tenant and token of each attempt that goes on."""
        self._abandoned: dict[asyncio.Task[Any], str] = {}
        """The tenant of each handler that does not end: they take none of the places of others."""
        self._turns: list[str] = []
        self._resting: dict[str, float] = {}
        """Tenants that are not served, and until when nobody looks at their jobs."""
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to work."""
        self._loops = [
            asyncio.create_task(self._work(), name="jobs", context=Context()),
            asyncio.create_task(self._renew(), name="job leases", context=Context()),
        ]

    async def stop(self, grace: float = GRACE) -> None:
        """Takes no more jobs, gives the running ones some time, and leaves the rest to others."""
        for loop in self._loops:
            await end(loop)
        if self._running:
            await asyncio.wait([*self._running], timeout=grace)
        for task in [*self._running]:
            await end(task)

    async def _work(self) -> None:
        woken = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self._jobs.news.clear()
            try:
                if clock() >= woken + self._poll:
                    await self._store.wake()
                    woken = clock()
                    await self._end_those_of_the_gone()
                found = await self._take_turns(await self._store.tenants())
            except FeathersError as error:
                log.warning("jobs: the queue cannot be asked", error=type(error).__name__)
                found = False
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._jobs.news.wait()

    async def leave(self, tenant: Tenant) -> None:
        """Returns when nothing is done here any more for a tenant that is being deleted."""
        own = self._end_those_of(tenant.id) if _is_gone(tenant) else []
        if own:
            _, late = await asyncio.wait(own, timeout=LEAVE + 1.0)
            for task in late:
                await end(task)

    async def _end_those_of_the_gone(self) -> None:
        """Also where `leave` was not heard: what is written for apps that are being deleted would come back after the purge."""
        for app_id in {app_id for app_id, _ in self._running.values()}:
            if _is_gone(await self._resolve(app_id)):
                self._end_those_of(app_id)

    def _end_those_of(self, app_id: str) -> list[asyncio.Task[None]]:
        own = [task for task, (owner, _) in self._running.items() if owner == app_id]
        for task in own:
            if not task.cancelling():
                log.warning("jobs: an attempt is ended with its app", tenant=app_id)
                task.cancel()
        return own

    async def _take_turns(self, waiting: Sequence[str]) -> bool:
        """Takes at most one job of each tenant, those first whose last turn is longest ago; whether any was taken."""
        there = dict.fromkeys(waiting)
        known = [id for id in self._turns if id in there]
        seen = set(known)
        order = [*(id for id in there if id not in seen), *known]
        taken = False
        running = Counter([*(app_id for app_id, _ in self._running.values()), *self._abandoned.values()])
        for app_id in order:
            if len(self._running) >= self._at_once:
                break
            if running[app_id] >= self._per_tenant or self._rests(app_id):
                continue
            document = await self._store.claim(app_id, self._node, token := uuid.uuid4().hex, self._lease)
            if document is None:
                continue
            taken = True
            known = [*(id for id in known if id != app_id), app_id]
            task = asyncio.create_task(self._attempt(document), name=f"job {document['name']}", context=Context())
            self._running[task] = (app_id, token)
            task.add_done_callback(self._forget)
        self._turns = known
        return taken and len(self._running) < self._at_once

    def _rest(self, app_id: str) -> None:
        """Looks at no job of a tenant for a while: each of its others would have to wait for the same reason."""
        self._resting[app_id] = asyncio.get_running_loop().time() + self._delay

    def _rests(self, app_id: str) -> bool:
        until = self._resting.get(app_id)
        if until is not None and until <= asyncio.get_running_loop().time():
            del self._resting[app_id]
            return False
        return until is not None

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._jobs.news.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("jobs: an attempt was not settled", error=type(task.exception()).__name__)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            tokens = [token for _, token in self._running.values()]
            if tokens:
                try:
                    await self._store.renew(self._node, tokens, self._lease)
                except FeathersError as error:
                    log.warning("jobs: leases were not renewed", error=type(error).__name__)

    async def _attempt(self, document: Document) -> None:
        tenant = await self._resolve(document["app_id"])
        handler = self._jobs.handlers.get(document["name"])
        if tenant is None or _is_gone(tenant):
            await self._settle(tenant, document, {"state": State.DROPPED, "reason": "the app is gone"})
        elif handler is None:
            # Another version of the server may know it.
            await self._postpone(tenant, document, "no handler here")
        elif (reason := _not_served(tenant, handler)) is not None:
            if tenant.status != "migrating":
                self._rest(tenant.id)
            await self._postpone(tenant, document, reason)
        elif document["attempt"] > handler.attempts + MOST_LOST:
            # Its attempts ended with their nodes, perhaps because of it: one job is not to end them all, one by one.
            reason = "its node was lost at each attempt"
            await self._settle(tenant, document, {"state": State.FAILED, "reason": reason})
        elif "key" in document and await self._store.is_running(tenant.id, document["key"], but=document["_id"]):
            await self._postpone(tenant, document, "the one before still runs")
        else:
            with tenant_scope(tenant):
                await self._do(tenant, handler, document)

    async def _do(self, tenant: Tenant, handler: Handler, document: Document) -> None:
        actor = document.get("actor")
        if (
            handler.permission is not None
            and actor
            and not await self._holds(tenant, actor, handler.permission, document.get("org_id"))
        ):
            reason = f"who asked for it does not hold '{handler.permission}' any more"
            await self._settle(tenant, document, {"state": State.DROPPED, "reason": reason})
            return
        await self._jobs.tell(tenant, "patched", document)
        job = Job(
            id=str(document["_id"]),
            name=handler.name,
            tenant=tenant,
            payload=document["payload"],
            attempt=document["attempt"],
            actor=actor,
            org_id=document.get("org_id"),
            call=document.get("call"),
        )
        try:
            await self._work_on(handler, job)
        except GiveUp as error:
            await self._settle(tenant, document, {"state": State.FAILED, "reason": str(error) or "it was given up"})
        except Endless:
            # Another attempt would run beside this one, and end no more than it.
            await self._settle(tenant, document, {"state": State.FAILED, "reason": "it does not end"})
        except (Exception, SystemExit) as error:
            # Also one that would end the program: it is the job's end, not that of everybody else's server.
            await self._fail(tenant, handler, document, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody here has cancelled it: something that the handler waited for was.
            await self._fail(tenant, handler, document, error)
        else:
            await self._settle(tenant, document, {"state": State.DONE, "reason": None})

    async def _work_on(self, handler: Handler, job: Job) -> None:
        """Has a handler do a job, in a task of its own: one that does not end holds up nobody who waits for it.

        Raises:
            what the handler raises. TimeoutError: its time was up. Endless: and it goes on all the same.
        """
        work = asyncio.create_task(_contained(handler, job), name=f"handler {handler.name}")
        try:
            await asyncio.wait([work], timeout=handler.timeout)
            is_late = not work.done()
            if is_late:
                work.cancel()
                await asyncio.wait([work], timeout=LEAVE)
        except asyncio.CancelledError:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work], timeout=LEAVE)
            if not work.done():
                self._abandon(work, job)
            raise
        if not work.done():
            self._abandon(work, job)
            raise Endless
        if work.cancelled() and is_late:
            raise TimeoutError
        if (error := work.result()) is not None:
            raise error

    def _abandon(self, work: asyncio.Task[Any], job: Job) -> None:
        log.error("jobs: a handler does not end", tenant=job.tenant.id, name=job.name, job=job.id)
        self._abandoned[work] = job.tenant.id
        work.add_done_callback(self._abandoned.pop)

    async def _fail(self, tenant: Tenant, handler: Handler, document: Document, error: BaseException) -> None:
        attempt = document["attempt"]
        last = attempt >= handler.attempts
        # Our own errors are sentences for clients; the text of others may hold anything.
        reason = error.message if isinstance(error, FeathersError) else type(error).__name__
        log.warning(
            "a job failed", job=document["_id"], name=handler.name, attempt=attempt, given_up=last, error=reason
        )
        if last:
            await self._settle(tenant, document, {"state": State.FAILED, "reason": reason})
        else:
            run_at = datetime.now(UTC) + timedelta(seconds=pause(attempt))
            await self._settle(tenant, document, {"state": State.SCHEDULED, "run_at": run_at, "reason": reason})

    async def _postpone(self, tenant: Tenant, document: Document, reason: str) -> None:
        """Comes back to a job later; that was no attempt."""
        run_at = datetime.now(UTC) + timedelta(seconds=self._delay)
        changes = {"state": State.SCHEDULED, "run_at": run_at, "attempt": document["attempt"] - 1, "reason": reason}
        await self._settle(tenant, document, changes)

    async def _settle(self, tenant: Tenant | None, document: Document, changes: dict[str, Any]) -> None:
        if isinstance(reason := changes.get("reason"), str):
            # Whatever a handler says: what cannot be kept would leave the job running for ever.
            changes = {**changes, "reason": reason[:LONGEST_REASON].encode(errors="replace").decode()}
        if not await self._store.settle(document["_id"], document["token"], changes):
            log.warning("a job was done elsewhere meanwhile", tenant=document["app_id"], job=document["_id"])
        elif tenant is not None:
            await self._jobs.tell(tenant, "patched", {**document, **changes})


async def _contained(handler: Handler, job: Job) -> BaseException | None:
    """Does a job; how it failed. What would end the program does not come as far as the loop that runs it."""
    try:
        await handler.work(job)
    except (Exception, SystemExit) as error:
        return error
    return None


def _is_gone(tenant: Tenant | None) -> bool:
    return tenant is None or tenant.status in ("deleting", "deleted")


def _not_served(tenant: Tenant, handler: Handler) -> str | None:
    """Why a tenant's job has to wait; None when it may run."""
    if tenant.status == "ready":
        return None if tenant.is_active else "the app is inactive"
    if tenant.status == "migrating" and not handler.writes:
        return None
    return f"the app is {tenant.status}"
