"""The audit log: what happened to the accounts, keys and rules of an app, for its administrators to read.

Entries are only ever added. They are written in the background: no call waits for one, or fails with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from bson import ObjectId

from hooks.context import Params, Record
from hooks.errors import Conflict, FeathersError, Unavailable
from hooks.rules import Rule
from hooks.tenant import Tenant
from services.base import Page, Service
from services.database.schema import CollectionSchema, Expiry, Index
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.tasks import end

log = structlog.get_logger()

PATH = "audit-log"
COLLECTION = "audit_log"
COLLECTIONS = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("at", -1), ("_id", -1))), Expiry("expires_at"))),)
AUDIT_RULES: Mapping[str, Rule] = {"find": {"permission": "admin"}, "get": {"permission": "admin"}}

DAYS = 90
MOST_WAITING = 10_000
PER_TENANT = 2_000
"""Of them, those of one tenant: whoever fills his log, or whose database is away, takes nobody else's place."""
BATCH = 200
AT_ONCE = 16
"""Tenants whose entries are written at the same time."""
TRIES = 5
_DAY = 86_400.0
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Happening:
    """What belongs into logs under this id, once each, some time after it has happened."""

    id: ObjectId
    at: datetime
    event: str
    details: Mapping[str, Any]


class Audit:
    """Writes entries `{at, event, outcome, actor_id, subject, address, user_agent, details}` of whichever tenant is named."""

    def __init__(
        self,
        isolation: Isolation,
        *,
        days: float = DAYS,
        most: int = MOST_WAITING,
        pause: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Entries are kept for `days`; at most `most` wait to be written; where the database cannot be
        asked, it is tried again after `pause` seconds, five times in all; `clock` tells the seconds since 1970.
        """
        self._isolation = isolation
        self._days = days
        self._most = most
        self._pause = pause
        self._clock = clock
        self._waiting: dict[str, deque[tuple[Tenant, Record]]] = {}
        self._count = 0
        """Entries that are not written yet, of all tenants."""
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.dropped = 0
        """Entries that were lost because too many waited, or the database would not take them."""

    def add(
        self,
        tenant: Tenant,
        event: str,
        *,
        outcome: str = "success",
        actor_id: str | None = None,
        subject: str | None = None,
        params: Params | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes an entry on, and returns at once. `actor_id` is the user who acted, `subject` whom or what it is about.

        `params` are those of the call. Nothing secret may be among what is given.
        """
        own = self._waiting.get(tenant.id)
        if self._count >= self._most or (own is not None and len(own) >= PER_TENANT):
            self._drop(1, "too many wait")
            return
        entry = self._entry(event, datetime.fromtimestamp(self._clock(), UTC), details)
        entry["outcome"] = outcome
        entry["actor_id"] = actor_id
        entry["subject"] = None if subject is None else printable(subject)
        if params is not None:
            entry["address"] = params.address or None
            entry["user_agent"] = printable(params.headers.get("user-agent", "")) or None
        if own is None:
            own = self._waiting[tenant.id] = deque()
            self._writers[tenant.id] = asyncio.create_task(self._write_all(tenant.id, own), name="audit")
        own.append((tenant, entry))
        self._count += 1

    async def complete(self, tenant: Tenant, happenings: Sequence[Happening]) -> None:
        """Writes those that are not in the tenant's log yet, each once whoever asks for it, and not past their time."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        entries = {one.id: {**self._entry(one.event, one.at, one.details), "_id": one.id} for one in happenings}
        due = [id for id, entry in entries.items() if entry["expires_at"] > now]
        if not due:
            return
        collection = self._isolation.collection(tenant, COLLECTION)
        known = {entry["_id"] for entry in await collection.find({"_id": {"$in": due}}, projection={"_id": 1})}
        for id in due:
            if id not in known:
                with contextlib.suppress(Conflict):
                    await collection.insert([entries[id]])

    async def settled(self) -> None:
        """Returns when no entry waits."""
        while self._writers:
            await asyncio.wait([*self._writers.values()])

    async def stop(self, grace: float = 5.0) -> None:
        """Gives what waits `grace` seconds to be written, and drops the rest."""
        if self._writers:
            await asyncio.wait([*self._writers.values()], timeout=grace)
        left = [*self._writers.values()]
        await asyncio.gather(*map(end, left))
        if left:
            self._drop(self._count, "the server stops")
            self._count = 0

    def _entry(self, event: str, at: datetime, details: Mapping[str, Any] | None) -> Record:
        return {
            "_id": ObjectId(),
            "at": at,
            "event": event,
            "outcome": "success",
            "actor_id": None,
            "subject": None,
            "address": None,
            "user_agent": None,
            "details": dict(details or {}),
            "expires_at": at + timedelta(seconds=self._days * _DAY),
        }

    async def _write_all(self, app_id: str, own: deque[tuple[Tenant, Record]]) -> None:
        try:
            while own:
                tenant = own[0][0]
                batch = [own.popleft()[1] for _ in range(min(BATCH, len(own)))]
                count = len(batch)
                try:
                    await self._write(tenant, batch)
                except Exception as error:
                    # The type alone: a message may hold what belongs in no log.
                    self._drop(len(batch), type(error).__name__)
                self._count -= count
        finally:
            del self._waiting[app_id], self._writers[app_id]

    async def _write(self, tenant: Tenant, batch: list[Record]) -> None:
        collection = self._isolation.collection(tenant, COLLECTION)
        for left in reversed(range(TRIES)):
            try:
                async with self._turns:
                    await collection.insert([dict(entry) for entry in batch])
            except Conflict:
                # A try before this one has written a part of them; the insertion stops at the first that is there.
                del batch[0]
                if batch:
                    await self._write(tenant, batch)
            except Unavailable:
                if left == 0:
                    raise
                await asyncio.sleep(self._pause)
                continue
            return

    def _drop(self, count: int, reason: str) -> None:
        before, self.dropped = self.dropped, self.dropped + count
        # One line for the first, and one for every thousand: a flood of entries is none of log lines.
        if count and (before == 0 or before // 1000 != self.dropped // 1000):
            log.error("audit entries were dropped", count=self.dropped, reason=reason)


class AuditLogService(Service):
    """The log of an app, the newest entries first: it can be read, by administrators, and by nobody changed."""

    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "at": {"type": "string", "required": True},
        "event": {"type": "string", "required": True},
        "outcome": {"enum": ["success", "failure"], "required": True},
        "actor_id": {"type": ["string", "null"], "description": "The user who acted."},
        "subject": {"type": ["string", "null"], "description": "Whom or what it is about."},
        "address": {"type": ["string", "null"]},
        "user_agent": {"type": ["string", "null"]},
        "details": {"type": "object"},
    }

    def __init__(self, isolation: Isolation, complete: Callable[[Tenant], Awaitable[None]] | None = None) -> None:
        """`complete` adds what is still missing in a tenant's log, before it is searched."""
        self._complete = complete
        self.options = ServiceOptions(
            COLLECTION, paginate=Paginate(default=50, max=500), hidden=frozenset({"expires_at"})
        )
        self._entries = MongoService(isolation, self.options)

    async def find(self, params: Params) -> Page | list[Record]:
        """Entries that match the query."""
        if self._complete is not None:
            await self._complete(params.tenant)
        ordered = params if "$sort" in params.query else replace(params, query={**params.query, "$sort": {"at": -1}})
        found = await self._entries.find(ordered)
        for entry in found["data"] if isinstance(found, dict) else found:
            entry.pop("expires_at", None)
        return found

    async def get(self, id: Any, params: Params) -> Record:
        """One entry.

        Raises:
            NotFound: there is none with this id.
        """
        found = await self._entries.get(id, params)
        found.pop("expires_at", None)
        return found


def printable(text: str) -> str:
    """A text as it is kept: the first 256 characters, without those that control terminals."""
    return "".join(char for char in text[:_LONGEST] if unicodedata.category(char)[0] != "C")


def failure_of(error: FeathersError | None) -> tuple[str, dict[str, str]]:
    """The outcome, and details, of a call that ended so."""
    return ("success", {}) if error is None else ("failure", {"error": error.name})
