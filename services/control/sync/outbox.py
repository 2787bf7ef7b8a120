"""The outbox: word of what has changed in the control plane, left in the same transaction as the change itself (SY-2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import IndexModel

from hooks.context import Record
from hooks.tenant import Tenant
from services.control.sync.model import ALL, TYPES, Change
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.database.transaction import current_session
from services.entities.registry import REVISION, ROLE_PERMISSIONS, ROLES
from services.isolation import Isolation
from services.store import Document

COLLECTION = "sync_events"
PENDING = "pending"
DONE = "done"
KEPT = timedelta(days=7)
"""For how long it can be seen what was done."""
LEASE = timedelta(seconds=60)
"""After which what a node has taken up goes to another one, unless it says that it is still at it."""
_LOOK = 0.25
TOGETHER = 100
"""Changes that are brought out in one round through the tenants."""


@dataclass(slots=True)
class Told:
    """What one call has left word of."""

    events: dict[str, Change] = field(default_factory=dict)
    wait: bool = False
    """Whether the caller waits until all tenants have it."""


_told: ContextVar[Told | None] = ContextVar("roost_sync_told", default=None)


@contextmanager
def listening() -> Iterator[Told]:
    """What is left word of inside of the block."""
    told = Told()
    token = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(token)


def listened() -> Told | None:
    """What goes on to be collected for the present call."""
    return _told.get()


class Outbox:
    """Word of changes, for whichever node gets to it first. It is the `Journal` of the isolation."""

    def __init__(self, deployment: Deployment, *, database: str, lease: timedelta = LEASE) -> None:
        self.lease = lease
        self._deployment = deployment
        self._control = control_database(database)
        self._plain = Isolation(deployment)
        self.news = asyncio.Event()
        """Set when there may be something to do."""
        self._settled = asyncio.Event()

    async def prepare(self) -> None:
        """Brings about the indexes."""
        await ensure_indexes(
            self._events,
            IndexModel([("state", 1), ("next_at", 1)], name="due"),
            IndexModel([("entity", 1), ("source_id", 1), ("rev", 1)], name="change", unique=True),
            IndexModel([("token", 1)], name="token", sparse=True),
            IndexModel([("done_at", 1)], name="done_at_expiry", expireAfterSeconds=int(KEPT.total_seconds())),
        )

    async def note(self, tenant: Tenant, collection: str, records: Sequence[Record], *, removed: bool) -> None:
        """See `services.isolation.Journal`. The permissions of a role change as one: they count as a write of the role."""
        if collection == ROLE_PERMISSIONS.collection:
            roles = self._plain.collection(tenant, ROLES.collection)
            for role_id in {record["role_id"] for record in records}:
                role = await roles.find_one_and_update({"_id": role_id}, {"$inc": {REVISION: 1}})
                if role is not None:
                    await self._add(Change(collection, str(role["_id"])), role[REVISION])
            return
        for record in records:
            rev = record.get(REVISION, 0) + (1 if removed else 0)
            await self._add(Change(collection, str(record["_id"])), rev)

    async def look_at(self, target: str, rev: int) -> None:
        """Has one tenant compared with the control plane as a whole: it is new, or has another opt-out list."""
        await self._add(Change(ALL, target, target), rev)

    async def claim(self, token: str) -> list[Change]:
        """Takes up what waits, all that is the same once. `token` names who does."""
        now = datetime.now(UTC)
        due = {"state": PENDING, "next_at": {"$lte": now}}
        try:
            cursor = self._events.find(due, {"_id": 1}, sort=[("next_at", 1)], limit=TOGETHER, max_time_ms=2000)
            ids = [event["_id"] async for event in cursor]
            if not ids:
                return []
            taken = {"$set": {"token": token, "next_at": now + self.lease}}
            await self._events.update_many({"_id": {"$in": ids}, **due}, taken)
            cursor = self._events.find({"token": token}, max_time_ms=2000)
            return [*dict.fromkeys([_change(event) async for event in cursor])]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def renew(self, token: str) -> None:
        """Holds what was taken up for another lease; what has changed again meanwhile is anybody's."""
        held = {"$set": {"next_at": datetime.now(UTC) + self.lease}}
        try:
            await self._events.update_many({"token": token}, held)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def settle(self, token: str) -> None:
        """Everything that was taken up is done; what has changed again meanwhile is not."""
        done = {"$set": {"state": DONE, "done_at": datetime.now(UTC)}, "$unset": {"token": ""}}
        try:
            await self._events.update_many({"token": token}, done)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        self._settled.set()

    async def wait(self, events: Sequence[str]) -> None:
        """Returns when nothing of this waits any more, whichever node has done it."""
        waiting = {"_id": {"$in": [*events]}, "state": PENDING}
        try:
            while await self._events.find_one(waiting, {"_id": 1}, max_time_ms=2000) is not None:
                self._settled.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._settled.wait()
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def oldest(self) -> datetime | None:
        """Since when something waits."""
        try:
            found = await self._events.find_one({"state": PENDING}, {"at": 1}, sort=[("at", 1)], max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else found["at"]

    async def _add(self, change: Change, rev: int) -> None:
        id = f"{change.entity}:{change.source_id}:{rev}"
        now = datetime.now(UTC)
        event = {"entity": change.entity, "source_id": change.source_id, "target": change.target, "rev": rev, "at": now}
        written = {"$set": {**event, "state": PENDING, "next_at": now}, "$unset": {"token": "", "done_at": ""}}
        try:
            await self._events.update_one(
                {"_id": id}, written, upsert=True, session=current_session(self._deployment.client)
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        self.news.set()
        told = listened()
        if told is not None:
            told.events[id] = change

    @property
    def _events(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _change(event: Document) -> Change:
    assert event["entity"] in TYPES or event["entity"] == ALL
    return Change(event["entity"], event["source_id"], event["target"])
