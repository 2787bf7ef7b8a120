"""Operations: what is being done to a tenant, as a record that survives the process that does it.

An operation names its steps and how far they are. Who works on one holds a lease, which its `fence` tells from all earlier
ones: what a process writes whose lease another one has taken changes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from hooks.context import Record
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.database.transaction import current_session
from services.store import Document, Namespace

COLLECTION = "tenant_operations"
EVENTS = "tenant_operation_events"

RUNNING = "running"
WAITING = "waiting"
"""A step has failed, and is tried again at `next_at`."""
SUCCEEDED = "succeeded"
FAILED = "failed"
"""A step has failed for good: until somebody asks for the operation again."""
CANCELLED = "cancelled"
"""Another operation has taken its place."""

AT_ONCE = datetime.fromtimestamp(0, UTC)
"""As the moment from which an operation is due. Later ones are counted by the database's clock alone."""
OPEN = frozenset({"copied", "estimate", "hook_failures", "proof", "purged"})
"""Notes that name no server, cluster or database."""
LEASE_MS = 10_000
"""Milliseconds after which the operation of a process that is gone is taken up by another one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it was read. `steps` are `{name, state, attempts, started_at, ended_at, error}`."""

    id: str
    app_id: str
    kind: str
    state: str
    steps: tuple[Mapping[str, Any], ...]
    actor: str
    """Who asked for it: the id of a user of the control plane, or `operator`."""
    provider: str | None
    data: Mapping[str, Any]
    """What the steps need to know."""
    attempts: int
    error: Mapping[str, Any] | None
    fence: int
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    idempotency_key: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    """How far long steps are, and which hooks have failed."""

    @property
    def is_active(self) -> bool:
        """Whether something is still to be done."""
        return self.state in (RUNNING, WAITING)

    def is_done(self, step: str) -> bool:
        """Whether a step has been done."""
        return any(kept["name"] == step and kept["state"] == SUCCEEDED for kept in self.steps)

    def shown(self, *, to_tenant: bool = False) -> Record:
        """What those who may read operations see; those of one tenant do not see where its data is and by which servers."""
        return {
            "_id": self.id,
            "tenant_id": self.app_id,
            "kind": self.kind,
            "state": self.state,
            "steps": [dict(step) for step in self.steps],
            "actor": self.actor,
            "attempts": self.attempts,
            "error": None if self.error is None else dict(self.error),
            "notes": {
                name: note for name, note in self.notes.items() if name != "token" and (name in OPEN or not to_tenant)
            },
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "ended_at": self.ended_at,
        }


class LeaseLost(Exception):
    """Another process has taken the operation up, or it was cancelled."""


class Operations:
    """The repository of operations and of the events of their steps."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Creates the indexes; one of them admits one active operation of an app (10.3)."""
        active = {"active": True}
        await asyncio.gather(
            ensure_indexes(
                self._records,
                IndexModel([("app_id", ASCENDING)], name="one_active", unique=True, partialFilterExpression=active),
                IndexModel([("app_id", ASCENDING), ("created_at", DESCENDING)], name="app_created"),
                IndexModel(
                    [("actor", ASCENDING), ("idempotency_key", ASCENDING)],
                    name="idempotency",
                    unique=True,
                    partialFilterExpression={"idempotency_key": {"$exists": True}},
                ),
                IndexModel([("next_at", ASCENDING)], name="due", partialFilterExpression=active),
            ),
            ensure_indexes(self._events, IndexModel([("operation", ASCENDING), ("_id", ASCENDING)], name="operation")),
        )

    async def begin(
        self,
        app_id: str,
        kind: str,
        steps: Sequence[str],
        *,
        actor: str,
        provider: str | None = None,
        data: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Keeps a new operation that anybody may take up; its id. In a transaction it is kept with the rest of that.

        Raises:
            Conflict: another operation of the app is active, or the actor has used the key.
        """
        now = datetime.now(UTC)
        record: Document = {
            "_id": f"op_{secrets.token_urlsafe(15)}",
            "app_id": app_id,
            "kind": kind,
            "state": RUNNING,
            "active": True,
            "steps": [{"name": name, "state": "pending", "attempts": 0} for name in steps],
            "actor": actor,
            "provider": provider,
            "data": dict(data or {}),
            "attempts": 0,
            "error": None,
            "fence": 0,
            "lease": {"node": None, "until": AT_ONCE},
            "next_at": AT_ONCE,
            "created_at": now,
            "updated_at": now,
            "ended_at": None,
        }
        if idempotency_key is not None:
            record["idempotency_key"] = idempotency_key
        await self._deployment.collection(Namespace(self._control, COLLECTION)).insert([record])
        return str(record["_id"])

    async def claim(self, id: str, node: str) -> Operation | None:
        """Takes an operation up for `LEASE_MS`; None if it is over, not due yet, or somebody else's at the moment."""
        due = {"$and": [{"$lte": ["$next_at", "$$NOW"]}, {"$lte": ["$lease.until", "$$NOW"]}]}
        until = {"$add": ["$$NOW", LEASE_MS]}
        taken = {"lease": {"node": node, "until": until}, "fence": {"$add": ["$fence", 1]}, "state": RUNNING}
        return await self._change(
            {"_id": id, "active": True, "$expr": due}, [{"$set": {**taken, "updated_at": "$$NOW"}}]
        )

    async def renew(self, operation: Operation) -> None:
        """Holds a lease for `LEASE_MS` more.

        Raises:
            LeaseLost: it is somebody else's.
        """
        until = {"$add": ["$$NOW", LEASE_MS]}
        if await self._change(_held(operation), [{"$set": {"lease.until": until}}]) is None:
            raise LeaseLost

    async def note(
        self, operation: Operation, changes: Mapping[str, Any], events: Sequence[Document] = ()
    ) -> Operation:
        """Keeps what has happened, as values by field path, and the events that tell of it.

        Raises:
            LeaseLost: the operation is somebody else's.
        """
        values = {**changes, "updated_at": datetime.now(UTC)}
        # Side by side: each waits for the database's journal.
        changed, _ = await asyncio.gather(
            self._change(_held(operation), {"$set": values}), self._tell(operation, events)
        )
        if changed is None:
            raise LeaseLost
        return changed

    async def end(
        self, operation: Operation, state: str, changes: Mapping[str, Any], events: Sequence[Document] = ()
    ) -> Operation:
        """Ends an operation, for good or until it is asked for again.

        Raises:
            LeaseLost: the operation is somebody else's.
        """
        now = datetime.now(UTC)
        values = {
            **changes,
            "state": state,
            "updated_at": now,
            "ended_at": now,
            "lease": {"node": None, "until": AT_ONCE},
        }
        changed, _ = await asyncio.gather(
            self._change(_held(operation), {"$set": values, "$unset": {"active": ""}}), self._tell(operation, events)
        )
        if changed is None:
            raise LeaseLost
        return changed

    async def postpone(
        self, operation: Operation, pause: float, changes: Mapping[str, Any], events: Sequence[Document] = ()
    ) -> Operation:
        """Gives an operation back, to be taken up again after `pause` seconds.

        Raises:
            LeaseLost: the operation is somebody else's.
        """
        await self.note(operation, changes, events)
        later = {"$add": ["$$NOW", round(pause * 1000)]}
        free = {"next_at": later, "lease": {"node": None, "until": "$$NOW"}, "state": WAITING}
        changed = await self._change(_held(operation), [{"$set": free}])
        if changed is None:
            raise LeaseLost
        return changed

    async def release(self, operation: Operation) -> None:
        """Gives an operation back as it is, to be taken up by anybody at once."""
        await self._change(_held(operation), {"$set": {"lease": {"node": None, "until": AT_ONCE}}})

    async def reopen(self, id: str) -> Operation | None:
        """Has an operation that failed taken up again, at once; None if it is active, or went well.

        Raises:
            Conflict: another operation of the app is active.
        """
        now = datetime.now(UTC)
        values = {
            "active": True,
            "state": RUNNING,
            "attempts": 0,
            "next_at": AT_ONCE,
            "ended_at": None,
            "updated_at": now,
        }
        return await self._change({"_id": id, "state": FAILED}, {"$set": values})

    async def hasten(self, id: str) -> None:
        """Has an operation that waits for its next attempt taken up at once."""
        await self._change({"_id": id, "state": WAITING}, {"$set": {"next_at": AT_ONCE}})

    async def cancel(self, app_id: str) -> None:
        """Gives up the app's operation that waits for its next attempt; one that runs is left alone."""
        now = datetime.now(UTC)
        chosen = {"app_id": app_id, "active": True, "state": WAITING}
        changes = {"$set": {"state": CANCELLED, "ended_at": now, "updated_at": now}, "$unset": {"active": ""}}
        await self._change(chosen, changes)

    async def get(self, id: str) -> Operation | None:
        """The operation, or None."""
        return await self._find_one({"_id": id})

    async def latest(self, app_id: str, kind: str | None = None) -> Operation | None:
        """The app's last operation, or the last of a kind."""
        return await self._find_one({"app_id": app_id} if kind is None else {"app_id": app_id, "kind": kind})

    async def by_key(self, actor: str, idempotency_key: str) -> Operation | None:
        """The operation that the actor has asked for with this key."""
        return await self._find_one({"actor": actor, "idempotency_key": idempotency_key})

    async def due(self, most: int) -> Sequence[str]:
        """Ids of operations that anybody may take up now, those that wait longest first."""
        now = {"$and": [{"$lte": ["$next_at", "$$NOW"]}, {"$lte": ["$lease.until", "$$NOW"]}]}
        chosen = {"active": True, "$expr": now}
        try:
            cursor = self._records.find(chosen, {"_id": 1}, sort=[("next_at", 1)], limit=most, max_time_ms=2000)
            return [record["_id"] async for record in cursor]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def find(
        self, filter: Mapping[str, Any], *, sort: Sequence[tuple[str, int]], skip: int, limit: int
    ) -> tuple[int, Sequence[Operation]]:
        """How many operations match, and a page of them."""
        try:
            total = await self._records.count_documents(filter, maxTimeMS=2000)
            cursor = self._records.find(filter, sort=[*sort], skip=skip, limit=limit, max_time_ms=2000)
            found = [to_operation(record) async for record in cursor] if limit else []
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return total, found

    async def events(self, id: str) -> Sequence[Record]:
        """What happened to the steps of an operation, the oldest first: `{at, step, event, attempt, error?}`."""
        try:
            cursor = self._events.find({"operation": id}, sort=[("_id", 1)], max_time_ms=2000)
            return [event async for event in cursor]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _find_one(self, filter: Mapping[str, Any]) -> Operation | None:
        try:
            found = await self._records.find_one(filter, sort=[("created_at", -1)], max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else to_operation(found)

    async def _change(self, filter: Mapping[str, Any], update: Any) -> Operation | None:
        try:
            found = await self._records.find_one_and_update(
                filter, update, return_document=ReturnDocument.AFTER, session=current_session(self._deployment.client)
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else to_operation(found)

    async def _tell(self, operation: Operation, events: Sequence[Document]) -> None:
        own = {"operation": operation.id, "app_id": operation.app_id}
        records = [{"_id": ObjectId(), **own, "at": datetime.now(UTC), **event} for event in events]
        await self._deployment.collection(Namespace(self._control, EVENTS)).insert(records)

    @property
    def _records(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]

    @property
    def _events(self) -> Any:
        return self._deployment.client[self._control][EVENTS]


def _held(operation: Operation) -> dict[str, Any]:
    return {"_id": operation.id, "active": True, "fence": operation.fence}


def to_operation(record: Mapping[str, Any]) -> Operation:
    """An operation as it is kept."""
    return Operation(
        id=record["_id"],
        app_id=record["app_id"],
        kind=record["kind"],
        state=record["state"],
        steps=tuple(record["steps"]),
        actor=record["actor"],
        provider=record["provider"],
        data=record["data"],
        attempts=record["attempts"],
        error=record["error"],
        fence=record["fence"],
        created_at=record["created_at"],
        updated_at=record["updated_at"],
        ended_at=record["ended_at"],
        idempotency_key=record.get("idempotency_key"),
        notes=record.get("notes", {}),
    )
