"""Changes: what happens to the records on which logins rest, in whichever process, as the database's change stream tells it.

Only the ids come along: who hears of a change looks the record up, if it matters here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS
from services.placement.placements import Placements
from services.tasks import end

log = structlog.get_logger()

POLL = 5.0
"""Seconds between two looks at everything while there is no change stream."""
MOST = 10_000
"""Changes of one tenant that wait to be told; where more do, all that rests on its records is looked at instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record of a tenant was changed, or deleted."""

    collection: str
    app_id: str
    id: str
    is_deleted: bool


Listener = Callable[[Change], Awaitable[None]]
Review = Callable[[str | None], Awaitable[None]]
"""Looks at all that rests on the records of one tenant; of all of them with None."""
Home = Callable[[str], Placement | None]
"""Where a tenant's data is now, as far as it is known here."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where changes are heard: one database, or all of a cluster that are tenants' own."""

    placement: Placement
    tenant: Tenant | None = None
    """The only tenant there is."""

    @property
    def app_id(self) -> str | None:
        return None if self.tenant is None else self.tenant.id


class Changes:
    """Follows some collections wherever tenants that are in use here keep them, for as long as the process lives.

    The shared database is always followed; of a named cluster all tenants' databases, in one stream, once one of them is in
    use; and a cluster of a tenant's own for as long as the tenant has connections here.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        database: str,
        updates: tuple[str, ...],
        deletions: tuple[str, ...],
        insertions: tuple[str, ...] = (),
        placements: Placements | None = None,
        home: Home = lambda app_id: None,
    ) -> None:
        """Of the collections in `updates` every change is told, of those in `deletions` that a record is gone.

        Of those in `insertions` it is told besides that there is a new one.
        """
        self._deployment = deployment
        self._placements = placements
        self._home = home
        self._shared = Placement(database=database)
        self._wanted: dict[str, Any] = {
            "$or": [
                {"operationType": {"$in": ["update", "replace", "delete"]}, "ns.coll": {"$in": [*updates]}},
                {"operationType": "delete", "ns.coll": {"$in": [*deletions]}},
                {"operationType": "insert", "ns.coll": {"$in": [*insertions]}},
                {"operationType": "invalidate"},
            ]
        }
        self._listener: Listener | None = None
        self._review: Review | None = None
        self._streams: dict[tuple[str, ...], _Stream] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        """Of tenants that have no connections here any more."""
        self._watching = False
        self._waiting: dict[str, dict[Change | None, None]] = {}
        """By tenant, in their order; None stands for too many."""
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self, listener: Listener, review: Review) -> None:
        """Begins to watch. `review` is called when changes may have been missed: then everything is to be looked at."""
        self._listener, self._review = listener, review
        self._watching = True
        self._begin(("shared",), _Source(self._shared))

    async def stop(self) -> None:
        """Ends the watch. Who still connects begins none that nobody would end."""
        self._watching = False
        for task in [*(stream.task for stream in self._streams.values()), *self._leaving, *self._telling]:
            await end(task)
        self._streams.clear()

    async def follow(self, tenant: Tenant) -> None:
        """A tenant is in use here: returns when changes of its records are heard, or cannot be just now."""
        placement = self._home(tenant.id) or tenant.placement
        if placement.model == "shared" or self._placements is None or not self._watching:
            return
        key: tuple[str, ...]
        if placement.model == "database":
            key, source = ("cluster", placement.cluster), _Source(placement)
        else:
            key, source = ("tenant", tenant.id, placement.database), _Source(placement, tenant)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._begin(key, source, tenant)
        await stream.opened.wait()

    async def release(self, app_id: str) -> None:
        """A tenant has no connections here any more."""
        for key in [key for key in self._streams if key[:2] == ("tenant", app_id)]:
            stream = self._streams.pop(key)
            self._leaving.add(stream.task)
            stream.task.add_done_callback(self._leaving.discard)
            # Interrupted while it connects, the driver would leave a socket open.
            await stream.opened.wait()
            await end(stream.task)

    def _begin(self, key: tuple[str, ...], source: _Source, tenant: Tenant | None = None) -> _Stream:
        opened = asyncio.Event()
        task = asyncio.create_task(self._follow(source, tenant, opened), name="changes")
        # Who waits for one that is ended waits no longer.
        task.add_done_callback(lambda _: opened.set())
        stream = self._streams[key] = _Stream(task, opened)
        return stream

    @asynccontextmanager
    async def _watchable(self, source: _Source, tenant: Tenant | None) -> AsyncIterator[Any]:
        if tenant is None or self._placements is None:
            yield self._deployment.client[self._shared.database]
            return
        async with self._placements.provider(source.placement).administer(tenant, source.placement) as handle:
            yield handle.raw if source.tenant is not None else handle.deployment.client

    async def _follow(self, source: _Source, tenant: Tenant | None, opened: asyncio.Event) -> None:
        assert self._review is not None
        review = partial(self._review, source.app_id)
        matched = self._wanted if tenant is None or source.tenant else {"$and": [{"ns.db": _OWN}, self._wanted]}
        pipeline = [{"$match": matched}, {"$project": {"_id": 1, "documentKey": 1, "operationType": 1, "ns": 1}}]
        resume: Mapping[str, Any] | None = None
        while True:
            try:
                async with (
                    self._watchable(source, tenant) as watchable,
                    await watchable.watch(pipeline, resume_after=resume, max_await_time_ms=1000) as stream,
                ):
                    opened.set()
                    if resume is None:
                        await _attempt(review)
                    async for change in stream:
                        if change["operationType"] == "invalidate":
                            resume = None
                            break
                        self._take(change)
                        resume = stream.resume_token
            except (*DRIVER_ERRORS, FeathersError) as error:
                # A token that cannot be resumed from any more would fail for ever.
                resume = None
                log.warning("changes: no change stream, looking at everything instead", error=type(error).__name__)
                opened.set()
                await _attempt(review)
            await asyncio.sleep(POLL if resume is None else 0.1)

    def _take(self, change: Mapping[str, Any]) -> None:
        """Takes a change on, to be told when its tenant's earlier ones are: no tenant waits for what another's take.

        One that waits already will be told as late as this one would.
        """
        bound, place = change["documentKey"]["_id"], change["ns"]
        if not isinstance(bound, Mapping) or "a" not in bound:
            return
        home = self._home(bound["a"])
        # What a move has left behind is deleted by and by; the tenant's records are elsewhere.
        if home is None or home.database == place["db"]:
            told = Change(place["coll"], bound["a"], str(bound["i"]), change["operationType"] == "delete")
            waiting = self._waiting.get(told.app_id)
            if waiting is None:
                waiting = self._waiting[told.app_id] = {}
                task = asyncio.create_task(self._tell_all(told.app_id, waiting), name="changes told")
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)
            if len(waiting) >= MOST:
                waiting.clear()
                waiting[None] = None
            if None not in waiting:
                waiting[told] = None

    async def _tell_all(self, app_id: str, waiting: dict[Change | None, None]) -> None:
        assert self._listener is not None
        assert self._review is not None
        while waiting:
            told = next(iter(waiting))
            del waiting[told]
            await _attempt(partial(self._review, app_id) if told is None else partial(self._listener, told))
        del self._waiting[app_id]


@dataclass(frozen=True, slots=True)
class _Stream:
    task: asyncio.Task[None]
    opened: asyncio.Event


_OWN = re.compile("^t_")
"""Names of tenants' own databases: see `services.placement.dedicated.fresh_name`."""


async def _attempt(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except FeathersError as error:
        log.warning("changes: not followed", error=type(error).__name__)
    except Exception:
        log.exception("changes: not followed")
