"""Runs operations: step by step, each recorded, again with growing pauses where one fails, and on after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from hooks.errors import FeathersError
from hooks.tenant import tenant_scope
from services.control.operations import FAILED, LEASE_MS, RUNNING, SUCCEEDED, LeaseLost, Operation, Operations
from services.control.sagas import Sagas, Work
from services.control.tenants import Tenants
from services.store import Document
from services.tasks import end

log = structlog.get_logger()

MOST_ATTEMPTS = 10
"""Times that an operation is tried until somebody has to ask for it again."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
LOOK = 2.0
"""Seconds between two looks for operations that nobody works on."""
QUICK = 0.05
"""Seconds within which a step needs no record of its own before it has ended."""
AT_ONCE = 8
"""Operations that one process works on at a time."""

Heard = Callable[[Operation], Awaitable[None]]
"""Hears of an operation: that it is tried, or that a step has failed."""
Progress = Callable[[Operation], Awaitable[None] | None]


class Runner:
    """Works on operations: those that are started here, and those that others have left behind."""

    def __init__(self, operations: Operations, sagas: Sagas, tenants: Tenants, *, pause: float = FIRST_PAUSE) -> None:
        """`pause` are the seconds before the second attempt; each further pause is twice as long."""
        self.node = secrets.token_urlsafe(9)
        self._operations = operations
        self._sagas = sagas
        self._tenants = tenants
        self._pause = pause
        self._running: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._worker: asyncio.Task[None] | None = None
        self._listeners: list[Progress] = []
        self._tried: Heard | None = None
        self._failed: Heard | None = None

    def on_progress(self, listener: Progress) -> None:
        """Calls `listener` with an operation of this process whenever it has come further."""
        self._listeners.append(listener)

    def on_attempt(self, listener: Heard) -> None:
        """Calls `listener` before the first step of every attempt."""
        self._tried = listener

    def on_failure(self, listener: Heard) -> None:
        """Calls `listener` before the failure of a step is recorded."""
        self._failed = listener

    async def start(self) -> None:
        """Begins to look for operations that nobody works on."""
        self._worker = asyncio.create_task(self._look(), name="operations")

    async def stop(self) -> None:
        """Ends all work here: what is not done is taken up by another process, or at the next start."""
        for task in [self._worker, *self._running.values()]:
            if task is not None:
                await end(task)

    def work(self, id: str) -> asyncio.Task[None]:
        """Works on an operation until it is over or has to wait; at most one task of this process for each."""
        task = self._running.get(id)
        if task is None:
            task = self._running[id] = asyncio.create_task(self._work(id), name=f"operation {id}")
            task.add_done_callback(lambda _: self._running.pop(id, None))
        return task

    async def _look(self) -> None:
        while True:
            try:
                for id in await self._operations.due(AT_ONCE):
                    self.work(id)
            except FeathersError as error:
                log.warning("operations could not be looked for", error=type(error).__name__)
            await asyncio.sleep(LOOK)

    async def _work(self, id: str) -> None:
        async with self._places:
            operation = None
            try:
                operation = await self._operations.claim(id, self.node)
                if operation is not None:
                    async with self._held(operation):
                        await self._run(operation)
            except LeaseLost:
                log.warning("an operation was taken up by another process, or cancelled", operation=id)
            except FeathersError as error:
                # The database is away: the lease runs out, and the operation is taken up again.
                log.warning("an operation was interrupted", operation=id, error=type(error).__name__)
            except asyncio.CancelledError:
                if operation is not None:
                    with contextlib.suppress(FeathersError):
                        await asyncio.shield(self._operations.release(operation))
                raise

    async def _run(self, operation: Operation) -> None:
        changes: dict[str, Any] = {}
        events: list[Document] = []
        # A step sees what those before it have noted, also where that was done too quickly to be read again.
        notes = {**operation.notes}
        if self._tried is not None:
            await self._tried(operation)
        if operation.fence == 1:
            # That it has begun is told even if it is over in a moment.
            await self._tell(operation)
        for place, kept in enumerate(operation.steps):
            if kept["state"] == SUCCEEDED:
                continue
            name, attempt = kept["name"], kept["attempts"] + 1
            begun = {"state": RUNNING, "attempts": attempt, "started_at": datetime.now(UTC), "error": None}
            changes |= {f"steps.{place}.{key}": value for key, value in begun.items()}
            events.append({"step": name, "event": "started", "attempt": attempt})
            step = asyncio.ensure_future(self._ensure(operation, name, notes))
            try:
                done, _ = await asyncio.wait([step], timeout=QUICK)
                if not done:
                    # Until now it stood with what came before it in memory: were it lost, the steps would be done again.
                    operation = await self._operations.note(operation, changes, events)
                    changes, events = {}, []
                    await self._tell(operation)
                error = await step
            finally:
                if not step.done():
                    await end(step)
            if error is not None:
                await self._fail(await self._operations.note(operation, changes, events), place, error)
                return
            changes |= {f"steps.{place}.state": SUCCEEDED, f"steps.{place}.ended_at": datetime.now(UTC)}
            events.append({"step": name, "event": SUCCEEDED, "attempt": attempt})
        await self._tell(await self._operations.end(operation, SUCCEEDED, {**changes, "error": None}, events))

    async def _ensure(self, operation: Operation, name: str, noted: dict[str, Any]) -> str | None:
        """Does a step; what went wrong, in a sentence that may be shown, or None. What it notes is added to `noted`."""
        try:
            step = self._sagas.step(operation.kind, name)
            if step is None:
                return f"This server does not know the step '{name}'"
            tenant = await self._tenants.get(operation.app_id) or await self._tenants.remains(operation.app_id)
            if tenant is None:
                return "The app is not in the catalogue any more"

            async def note(**notes: Any) -> None:
                noted.update(notes)
                values = {f"notes.{key}": value for key, value in notes.items()}
                await self._tell(await self._operations.note(operation, values))

            with tenant_scope(tenant):
                await step.ensure(Work(replace(operation, notes=noted), tenant, note))
        except LeaseLost:
            raise
        except FeathersError as error:
            log.warning("a step failed", operation=operation.id, tenant=operation.app_id, step=name, error=error.name)
            return error.message
        except Exception:
            log.exception("a step failed", operation=operation.id, tenant=operation.app_id, step=name)
            return "Something went wrong: the server's log has the cause"
        return None

    async def _fail(self, operation: Operation, place: int, message: str) -> None:
        name, attempt = operation.steps[place]["name"], operation.steps[place]["attempts"]
        attempts = operation.attempts + 1
        changes = {
            f"steps.{place}.state": FAILED,
            f"steps.{place}.error": message,
            f"steps.{place}.ended_at": datetime.now(UTC),
            "attempts": attempts,
            "error": {"step": name, "message": message},
        }
        events: list[Document] = [{"step": name, "event": FAILED, "attempt": attempt, "error": message}]
        if self._failed is not None:
            await self._failed(operation)
        if attempts >= MOST_ATTEMPTS:
            await self._tell(await self._operations.end(operation, FAILED, changes, events))
            return
        pause = min(self._pause * 2 ** (attempts - 1), LONGEST_PAUSE) * random.uniform(0.8, 1.2)
        await self._tell(await self._operations.postpone(operation, pause, changes, events))

    async def _tell(self, operation: Operation) -> None:
        for listener in self._listeners:
            try:
                outcome = listener(operation)
                if outcome is not None:
                    await outcome
            except Exception:
                log.exception("a listener of operations failed", operation=operation.id)

    @contextlib.asynccontextmanager
    async def _held(self, operation: Operation) -> AsyncIterator[None]:
        """Holds the lease while the block runs. When it is lost, the block is cancelled, and LeaseLost goes on."""
        work = asyncio.current_task()
        assert work is not None
        lost = False

        async def hold() -> None:
            nonlocal lost
            while not lost:
                await asyncio.sleep(LEASE_MS / 3000)
                try:
                    await self._operations.renew(operation)
                except LeaseLost:
                    lost = True
                    work.cancel()
                except FeathersError as error:
                    log.warning("a lease was not renewed", operation=operation.id, error=error.name)

        holder = asyncio.create_task(hold(), name=f"lease of {operation.id}")
        try:
            yield
        except asyncio.CancelledError:
            if not lost:
                raise
            work.uncancel()
            raise LeaseLost from None
        finally:
            await end(holder)
