"""Jobs in the control plane's database, those of all tenants in one collection: whoever works has to find them there."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.jobs.model import ENDED, State
from services.store import Document

COLLECTION = "jobs"
SCHEDULES = "job_schedules"
KEPT = timedelta(days=7)
"""For so long jobs are listed after their end."""
BOUND = 5_000
"""Milliseconds that one command may take."""

_T = TypeVar("_T")


class MongoJobStore:
    """The `services.jobs.store.JobStore` of a deployment."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Creates the indexes."""
        await ensure_indexes(
            self._jobs,
            IndexModel([("state", 1), ("app_id", 1), ("run_at", 1)], name="turns"),
            IndexModel([("state", 1), ("run_at", 1)], name="times"),
            IndexModel([("app_id", 1), ("created_at", -1), ("_id", 1)], name="listing"),
            IndexModel([("expires_at", 1)], name="ended", expireAfterSeconds=0),
        )

    async def now(self) -> datetime:
        answer = await _told(self._deployment.client.admin.command("hello"))
        now: datetime = answer["localTime"].replace(tzinfo=UTC)
        return now

    async def insert(self, document: Document) -> bool:
        document.setdefault("_id", uuid.uuid4().hex)
        try:
            await self._jobs.insert_one(document)
        except DuplicateKeyError:
            return False
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return True

    async def unfinished(self, app_id: str, most: int) -> int:
        chosen = {"app_id": app_id, "state": {"$in": [State.SCHEDULED, State.WAITING, State.RUNNING]}}
        return int(await _told(self._jobs.count_documents(chosen, limit=most, maxTimeMS=BOUND)))

    async def wake(self) -> None:
        due = {"state": State.SCHEDULED, "$expr": {"$lte": ["$run_at", "$$NOW"]}}
        await _told(self._jobs.update_many(due, {"$set": {"state": State.WAITING}}))
        lost = {"state": State.RUNNING, "$expr": {"$lt": ["$lease_until", "$$NOW"]}}
        freed = {"$set": {"state": State.WAITING}, "$unset": {"token": "", "node": "", "lease_until": ""}}
        await _told(self._jobs.update_many(lost, freed))

    async def tenants(self) -> Sequence[str]:
        found: Sequence[str] = await _told(self._jobs.distinct("app_id", {"state": State.WAITING}, maxTimeMS=BOUND))
        return found

    async def claim(self, app_id: str, node: str, token: str, lease: float) -> Document | None:
        taken = {
            "state": State.RUNNING,
            "node": node,
            "token": token,
            "attempt": {"$add": ["$attempt", 1]},
            "started_at": "$$NOW",
            "lease_until": _in(lease),
        }
        found: Document | None = await _told(
            self._jobs.find_one_and_update(
                {"state": State.WAITING, "app_id": app_id},
                [{"$set": taken}],
                sort=[("run_at", 1)],
                return_document=ReturnDocument.AFTER,
                maxTimeMS=BOUND,
            )
        )
        return found

    async def renew(self, node: str, tokens: Sequence[str], lease: float) -> None:
        going_on = {"state": State.RUNNING, "node": node, "token": {"$in": [*tokens]}}
        await _told(self._jobs.update_many(going_on, [{"$set": {"lease_until": _in(lease)}}]))

    async def is_running(self, app_id: str, key: str, *, but: Any) -> bool:
        other = {"state": State.RUNNING, "app_id": app_id, "key": key, "_id": {"$ne": but}}
        return await _told(self._jobs.find_one(other, {"_id": 1}, max_time_ms=BOUND)) is not None

    async def settle(self, id: Any, token: str, changes: Mapping[str, Any]) -> bool:
        own = {"_id": id, "token": token, "state": State.RUNNING}
        gone = {"token": "", "node": "", "lease_until": ""}
        changed = await _told(self._jobs.update_one(own, {"$set": _with_end(changes), "$unset": gone}))
        return bool(changed.matched_count)

    async def find(self, app_id: str, chosen: Mapping[str, Any], skip: int, limit: int) -> tuple[list[Document], int]:
        own = {**chosen, "app_id": app_id}
        order = [("created_at", -1), ("_id", 1)]
        total = int(await _told(self._jobs.count_documents(own, maxTimeMS=BOUND)))
        if not limit:
            return [], total
        cursor = self._jobs.find(own, sort=order, skip=skip, limit=limit, max_time_ms=BOUND)
        return await _told(cursor.to_list()), total

    async def get(self, app_id: str, id: str) -> Document | None:
        found: Document | None = await _told(self._jobs.find_one({"_id": id, "app_id": app_id}, max_time_ms=BOUND))
        return found

    async def change(
        self, app_id: str, id: str, states: Sequence[State], changes: Mapping[str, Any]
    ) -> Document | None:
        own = {"_id": id, "app_id": app_id, "state": {"$in": [*states]}}
        found: Document | None = await _told(
            self._jobs.find_one_and_update(
                own, {"$set": _with_end(changes)}, return_document=ReturnDocument.AFTER, maxTimeMS=BOUND
            )
        )
        return found

    async def last_tick(self, schedule: str, now: datetime) -> datetime:
        found = await _told(
            self._schedules.find_one_and_update(
                {"_id": schedule}, {"$setOnInsert": {"tick": now}}, upsert=True, return_document=ReturnDocument.AFTER
            )
        )
        tick: datetime = found["tick"]
        return tick

    async def set_back(self, schedule: str, last: datetime, now: datetime) -> None:
        await _told(self._schedules.update_one({"_id": schedule, "tick": last}, {"$set": {"tick": now}}))

    async def ticked(self, schedule: str, tick: datetime) -> None:
        await _told(self._schedules.update_one({"_id": schedule, "tick": {"$lt": tick}}, {"$set": {"tick": tick}}))

    @property
    def _jobs(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]

    @property
    def _schedules(self) -> Any:
        return self._deployment.client[self._control][SCHEDULES]


async def _told(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error


def _in(seconds: float) -> Document:
    return {"$add": ["$$NOW", round(seconds * 1000)]}


def _with_end(changes: Mapping[str, Any]) -> Document:
    """A job that has ended carries when it is to be forgotten; one that goes on again is not."""
    now = datetime.now(UTC)
    if changes.get("state") in ENDED:
        return {**changes, "ended_at": now, "expires_at": now + KEPT}
    return {**changes, "ended_at": None, "expires_at": None}
