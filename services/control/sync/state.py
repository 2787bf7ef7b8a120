"""The state: how far each entity is in each tenant, what is tried again, and what was deleted for good."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pymongo import IndexModel, ReturnDocument, UpdateOne

from hooks.context import Record
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.store import Document

COLLECTION = "sync_state"
ATTEMPTS = 10
"""After which a tenant's copy is given up until somebody asks for it again, or the nightly look comes by."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 600.0
CHUNK = 500
RETRIED = 500
"""Rows that are tried again in one round."""
LEASE = timedelta(seconds=60)
"""After which what a node has taken up to try it again goes to another one, unless it says that it is still at it."""
_LATELY = timedelta(minutes=5)


class Status(StrEnum):
    """Where a copy stands."""

    SYNCED = "synced"
    WITHDRAWN = "withdrawn"
    """The tenant is not to have it, or not any more."""
    REMOVED = "removed"
    """The original was deleted: a tombstone, after which no late word of it brings a copy back (SY-4)."""
    CONFLICT = "conflict"
    """The tenant has something of its own by this name."""
    DEFERRED = "deferred"
    """What it rests on is not there yet."""
    PENDING = "pending"
    """It could not be brought about, and is tried again."""
    FAILED = "failed"
    """Given up."""


UNSYNCED: Final = (Status.PENDING, Status.FAILED)
_AGAIN: Final = (Status.PENDING, Status.DEFERRED)


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one entity in one tenant."""

    target: str
    entity: str
    source_id: str
    status: Status
    rev: int = 0
    error: str | None = None
    tried: bool = True
    """False when nobody has even asked: that is no attempt."""

    @property
    def id(self) -> str:
        """Of its record."""
        return state_id(self.target, self.entity, self.source_id)


class State:
    """The repository of rows."""

    def __init__(
        self, deployment: Deployment, *, database: str, attempts: int = ATTEMPTS, lease: timedelta = LEASE
    ) -> None:
        self.lease = lease
        self._deployment = deployment
        self._control = control_database(database)
        self._attempts = attempts

    async def prepare(self) -> None:
        """Brings about the indexes."""
        keys = [("target", 1), ("entity", 1), ("source_id", 1)]
        await ensure_indexes(
            self._rows,
            IndexModel(keys, name="copy", unique=True),
            IndexModel([("status", 1), ("updated_at", 1)], name="status_updated_at"),
            IndexModel([("status", 1), ("next_at", 1)], name="due"),
            IndexModel([("entity", 1), ("source_id", 1)], name="source"),
            IndexModel([("token", 1)], name="token", sparse=True),
        )

    async def record(self, rows: Sequence[Row]) -> None:
        """Keeps what came of each. What failed is tried again later and later, and then no more."""
        now = datetime.now(UTC)
        before = await self._known([row.id for row in rows if row.status in _AGAIN])
        writes = [self._write(row, before.get(row.id, {}), now) for row in rows]
        try:
            for start in range(0, len(writes), CHUNK):
                await self._rows.bulk_write(writes[start : start + CHUNK], ordered=False)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def is_gone(self, target: str, entity: str, source_id: str) -> bool:
        """Whether the original was deleted: ids are not used again."""
        chosen = {"_id": state_id(target, entity, source_id), "status": Status.REMOVED}
        try:
            return await self._rows.find_one(chosen, {"_id": 1}, max_time_ms=2000) is not None
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def claim_due(self, token: str) -> list[tuple[str, str, str]]:
        """What is to be tried again now, each for one node, which `token` names; as target, entity and source."""
        now = datetime.now(UTC)
        taken = {"$set": {"next_at": now + self.lease, "token": token}}
        due = {"status": {"$in": [*_AGAIN]}, "next_at": {"$lte": now}}
        claimed = []
        try:
            cursor = self._rows.find(due, {"_id": 1}, sort=[("next_at", 1)], limit=RETRIED, max_time_ms=2000)
            for id in [row["_id"] async for row in cursor]:
                row = await self._rows.find_one_and_update(
                    {"_id": id, **due}, taken, return_document=ReturnDocument.AFTER
                )
                if row is not None:
                    claimed.append((row["target"], row["entity"], row["source_id"]))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return claimed

    async def renew(self, token: str) -> None:
        """Holds for another lease what was taken up and of which nothing is on record since."""
        held = {"$set": {"next_at": datetime.now(UTC) + self.lease}}
        try:
            await self._rows.update_many({"token": token}, held)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def failing(self) -> set[str]:
        """Tenants that could not be written lately: they are left to those who try again."""
        now = datetime.now(UTC)
        waiting = {"status": Status.PENDING, "attempts": {"$gt": 0}, "next_at": {"$gt": now}}
        given_up = {"status": Status.FAILED, "updated_at": {"$gt": now - _LATELY}}
        chosen = {"$or": [waiting, given_up]}
        try:
            return {*await self._rows.distinct("target", chosen, maxTimeMS=2000)}
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def forget(self, target: str) -> None:
        """Deletes all rows of a tenant that is gone."""
        try:
            await self._rows.delete_many({"target": target})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def find(
        self, chosen: Mapping[str, Any], *, skip: int = 0, limit: int = 0, sort: Sequence[tuple[str, int]] = ()
    ) -> list[Document]:
        """Rows."""
        try:
            cursor = self._rows.find(chosen, sort=[*sort, ("_id", 1)], skip=skip, limit=limit, max_time_ms=5000)
            return [row async for row in cursor]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def count(self, chosen: Mapping[str, Any]) -> int:
        """How many rows."""
        try:
            return int(await self._rows.count_documents(chosen, maxTimeMS=5000))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def oldest(self, chosen: Mapping[str, Any] | None = None) -> datetime | None:
        """Since when a copy is not what it should be."""
        rows = await self.find({**(chosen or {}), "status": {"$in": [*UNSYNCED]}}, sort=[("since", 1)], limit=1)
        return rows[0]["since"] if rows else None

    async def _known(self, ids: list[str]) -> dict[str, Document]:
        if not ids:
            return {}
        return {row["_id"]: row for row in await self.find({"_id": {"$in": ids}})}

    def _write(self, row: Row, before: Mapping[str, Any], now: datetime) -> UpdateOne:
        status = row.status
        kept: Document = {
            "target": row.target,
            "entity": row.entity,
            "source_id": row.source_id,
            "rev": row.rev,
            "updated_at": now,
        }
        if status in _AGAIN:
            attempts = before.get("attempts", 0) + (1 if row.tried else 0)
            if status is Status.PENDING and attempts >= self._attempts:
                status = Status.FAILED
            kept |= {"attempts": attempts, "next_at": now + timedelta(seconds=pause(attempts)), "error": row.error}
            if not row.tried and "next_at" in before:
                kept["next_at"] = before["next_at"]
            kept["since"] = before.get("since", now)
            values = {"$set": {**kept, "status": status}, "$unset": {"token": ""}}
            return UpdateOne({"_id": row.id}, values, upsert=True)
        gone = {"token": "", "attempts": "", "next_at": "", "since": ""} | ({"error": ""} if row.error is None else {})
        if row.error is not None:
            kept["error"] = row.error
        return UpdateOne({"_id": row.id}, {"$set": {**kept, "status": status}, "$unset": gone}, upsert=True)

    @property
    def _rows(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def state_id(target: str, entity: str, source_id: str) -> str:
    """The id of a row."""
    return f"{target}:{entity}:{source_id}"


def pause(attempts: int) -> float:
    """Seconds before the next attempt: twice as long each time, and never the same for all."""
    return float(min(FIRST_PAUSE * 2 ** min(attempts - 1, 20), LONGEST_PAUSE) * random.uniform(0.75, 1.25))


def shown(row: Document) -> Record:
    """What may be told of a row."""
    names = ("target", "entity", "source_id", "status", "rev", "attempts", "next_at", "since", "error", "updated_at")
    return {"_id": row["_id"], **{name: row[name] for name in names if row.get(name) is not None}}
