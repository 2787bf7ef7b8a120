"""The worker of a node: takes up what has changed, and brings it to every tenant, a few at a time.

Two loops, which do not wait for each other: one brings changes to all tenants, the other tries again where it failed. A tenant
whose database is away costs the first loop one patience; from then on it is left to the second one (SY-10).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from services.control.sync.mending import Account, Item, Mending
from services.control.sync.model import ALL, Change
from services.control.sync.outbox import Outbox
from services.control.sync.source import Source
from services.control.sync.state import Row, State, Status
from services.control.sync.targets import Targets
from services.isolation import Isolation
from services.tasks import end

log = structlog.get_logger()

AT_ONCE = 16
"""Tenants that are mended at a time."""
POLL = 1.0
"""Seconds between two looks for what other nodes have left word of."""
KEPT_BACK = 1000
"""Rows that are kept together."""
LONG_PATIENCE = 30.0
"""Seconds that one tenant may take where nobody waits for it."""
ALERT = 300.0
"""Seconds after which a copy that is not what it should be is worth a warning."""


class _Leased(Protocol):
    """What a node takes up for a while."""

    @property
    def lease(self) -> timedelta: ...

    async def renew(self, token: str) -> None: ...


_Mend = Callable[[Tenant], Awaitable[Account]]


class SyncWorker:
    """Keeps the tenants' copies like the originals, until it is stopped."""

    def __init__(
        self,
        isolation: Isolation,
        mending: Mending,
        outbox: Outbox,
        state: State,
        targets: Targets,
        *,
        at_once: int = AT_ONCE,
        poll: float = POLL,
    ) -> None:
        self._isolation = isolation
        self._mending = mending
        self._outbox = outbox
        self._state = state
        self._targets = targets
        self._at_once = at_once
        self._poll = poll
        self._tasks: list[asyncio.Task[None]] = []
        self._again = asyncio.Event()
        self.age = 0.0
        """Seconds for which the oldest word has not reached everybody, as of the last look: a metric."""

    async def start(self) -> None:
        """Begins to work."""
        self._tasks = [
            asyncio.create_task(self._forever(self.bring, self._outbox.news), name="sync", context=Context()),
            asyncio.create_task(self._forever(self.retry, self._again), name="sync again", context=Context()),
        ]

    async def stop(self) -> None:
        """Ends; what is not done is taken up by another node, or at the next start."""
        for task in self._tasks:
            await end(task)

    async def source(self) -> Source:
        """A snapshot of the control plane."""
        return Source(self._isolation, await self._targets.control_plane())

    async def bring(self) -> bool:
        """Brings to the tenants what has changed; whether there was anything.

        Raises:
            FeathersError: the control plane's database cannot be asked.
        """
        token = uuid.uuid4().hex
        changes = await self._outbox.claim(token)
        if not changes:
            return False
        async with _held(self._outbox, token):
            await self._bring(changes)
        await self._outbox.settle(token)
        return True

    async def retry(self) -> bool:
        """Tries again where it is time to; whether there was anything.

        Raises:
            FeathersError: as `bring`.
        """
        token = uuid.uuid4().hex
        due: dict[str, list[Item]] = {}
        for target, entity, source_id in await self._state.claim_due(token):
            due.setdefault(target, []).append((entity, source_id))
        await self._look_at_age()
        if not due:
            return False
        async with _held(self._state, token):
            await self._try_again(due)
        return True

    async def _bring(self, changes: Sequence[Change]) -> None:
        source = await self.source()
        items = [(change.entity, change.source_id) for change in changes if change.entity != ALL]
        whole = {change.target for change in changes if change.entity == ALL}
        failing = await self._state.failing()

        async def mend(target: Tenant) -> Account:
            if target.id in failing:
                more = await self._everything(source) if target.id in whole else []
                return self._postpone(target, [*items, *more])
            if target.id in whole:
                return await self._mend_whole(source, target, items)
            return await self._mending.some(source, target, items)

        chosen = self._targets.all() if items else self._named(whole)
        await self._each(chosen, mend)

    async def _try_again(self, due: Mapping[str, Sequence[Item]]) -> None:
        source = await self.source()

        async def mend(target: Tenant) -> Account:
            return await self._mending.some(source, target, due[target.id], patience=LONG_PATIENCE)

        found = await self._each(self._named(due), mend)
        for target in due.keys() - found:
            await self._state.forget(target)

    async def _mend_whole(self, source: Source, target: Tenant, items: Sequence[Item]) -> Account:
        """`items` are what is new besides: what was deleted is not among the originals any more."""
        try:
            async with asyncio.timeout(LONG_PATIENCE):
                account = await self._mending.whole(source, target)
        except (FeathersError, TimeoutError) as error:
            log.warning("sync: a tenant is looked at later", tenant=target.id, error=type(error).__name__)
            account = Account(target.id)
            left = dict.fromkeys([*items, *await self._everything(source)])
            synced = [item for item in left if self._mending.switches.has(item[0])]
            account.fail(synced, "The app could not be looked at as a whole")
            return account
        seen = {(row.entity, row.source_id) for row in account.rows}
        rest = [item for item in items if item not in seen]
        account.rows += (await self._mending.some(source, target, rest)).rows
        return account

    async def _everything(self, source: Source) -> list[Item]:
        return [
            (entity, str(record["_id"]))
            for entity in ("resource_servers", "roles", "connections")
            if self._mending.switches.has(entity)
            for record in await source.all(entity)
        ]

    def _postpone(self, target: Tenant, items: Sequence[Item]) -> Account:
        account = Account(target.id)
        synced = [item for item in dict.fromkeys(items) if self._mending.switches.has(item[0])]
        account.fail(synced, "The app did not answer lately", tried=False)
        return account

    async def _each(self, targets: AsyncIterator[Tenant], mend: _Mend) -> set[str]:
        """Mends tenants, so many at a time, and keeps what came of it; the ids of those that there are."""
        places = asyncio.Semaphore(self._at_once)
        running: set[asyncio.Task[None]] = set()
        done: list[asyncio.Task[None]] = []
        rows: list[Row] = []
        found: set[str] = set()

        async def visit(target: Tenant) -> None:
            try:
                rows.extend((await mend(target)).rows)
                if len(rows) >= KEPT_BACK:
                    kept, rows[:] = [*rows], []
                    await self._keep(kept)
            finally:
                places.release()

        try:
            async for target in targets:
                found.add(target.id)
                await places.acquire()
                task = asyncio.create_task(visit(target), name=f"sync {target.id}", context=Context())
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(done.append)
            if running:
                await asyncio.wait([*running])
        finally:
            for task in [*running]:
                await end(task)
        for failed in [task for task in done if task.exception() is not None]:
            raise failed.exception() or RuntimeError
        await self._keep(rows)
        return found

    async def _keep(self, rows: Sequence[Row]) -> None:
        await self._state.record(rows)
        if any(row.status in (Status.PENDING, Status.DEFERRED) for row in rows):
            self._again.set()

    async def _named(self, ids: set[str] | Mapping[str, object]) -> AsyncIterator[Tenant]:
        for id in sorted(ids):
            target = await self._targets.get(id)
            if target is not None:
                yield target

    async def _look_at_age(self) -> None:
        moments = [moment for moment in (await self._outbox.oldest(), await self._state.oldest()) if moment is not None]
        now = datetime.now(UTC)
        age = max(((now - moment).total_seconds() for moment in moments), default=0.0)
        if age >= ALERT > self.age:
            log.warning("sync: a copy is not what it should be for too long", seconds=round(age))
        self.age = age

    async def _forever(self, work: Callable[[], Awaitable[bool]], news: asyncio.Event) -> None:
        while True:
            news.clear()
            try:
                found = await work()
            except (FeathersError, LookupError) as error:
                log.warning("sync: the control plane cannot be asked", error=type(error).__name__)
                found = False
            except Exception:
                log.exception("sync: a round failed")
                found = False
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await news.wait()


@asynccontextmanager
async def _held(leased: _Leased, token: str) -> AsyncIterator[None]:
    """Holds what was taken up as `token` while the block runs, so that no other node does the same meanwhile."""

    async def hold() -> None:
        while True:
            await asyncio.sleep(leased.lease.total_seconds() / 3)
            try:
                await leased.renew(token)
            except FeathersError as error:
                log.warning("sync: a lease was not renewed", error=type(error).__name__)

    holder = asyncio.create_task(hold(), name="sync lease", context=Context())
    try:
        yield
    finally:
        await end(holder)
