"""Buckets and counters in the control plane's database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from hooks.tenant import Rate
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.limits.store import Grant

BUCKETS = "rate_buckets"
COUNTERS = "quota_counters"
BOUND = 1_000
"""Milliseconds that one command may take."""
KEPT = timedelta(days=400)
"""For so long counters of past periods can be read."""


class MongoRateStore:
    """The `services.limits.store.RateStore` of a deployment."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Creates the index by which full buckets, which say nothing, are deleted."""
        buckets = self._deployment.client[self._control][BUCKETS]
        await ensure_indexes(buckets, IndexModel([("expires_at", 1)], name="full", expireAfterSeconds=0))

    async def open(self) -> None:
        """Nothing: the deployment is open."""

    async def close(self) -> None:
        """Nothing: the deployment is its owner's."""

    async def take(self, app_id: str, kind: str, subject: str, rate: Rate, want: int) -> Grant:
        id = {"app_id": app_id, "class": kind, "subject": subject}
        document = await _upserted(self._deployment.client[self._control][BUCKETS], id, _taking(rate, want))
        granted = int(document["granted"])
        return Grant(granted, 0.0 if granted else max(0.0, (1 - document["tokens"]) / rate.per_second))


class MongoQuotaStore:
    """The `services.limits.store.QuotaStore` of a deployment."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Creates the index by which counters of long ago are deleted."""
        await ensure_indexes(self._counters, IndexModel([("expires_at", 1)], name="past", expireAfterSeconds=0))

    async def reserve(self, app_id: str, name: str, period: str, want: int, limit: int) -> tuple[int, int]:
        used = {"$ifNull": ["$used", 0]}
        granted = {"$max": [0, {"$min": [want, {"$subtract": [limit, used]}]}]}
        reserving: list[dict[str, Any]] = [
            {"$set": {"granted": granted, "expires_at": datetime.now(UTC) + KEPT}},
            {"$set": {"used": {"$add": [used, "$granted"]}}},
        ]
        document = await _upserted(self._counters, _counter(app_id, name, period), reserving)
        return int(document["granted"]), int(document["used"])

    async def give_back(self, app_id: str, name: str, period: str, units: int) -> None:
        try:
            await self._counters.update_one({"_id": _counter(app_id, name, period)}, {"$inc": {"used": -units}})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def used(self, app_id: str, name: str, period: str) -> int:
        try:
            found = await self._counters.find_one({"_id": _counter(app_id, name, period)}, max_time_ms=BOUND)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return int(found["used"]) if found else 0

    @property
    def _counters(self) -> Any:
        return self._deployment.client[self._control][COUNTERS]


def _counter(app_id: str, name: str, period: str) -> dict[str, str]:
    return {"app_id": app_id, "name": name, "period": period}


async def _upserted(collection: Any, id: Mapping[str, str], pipeline: list[dict[str, Any]]) -> dict[str, Any]:
    """The document after the pipeline. Two that make it at the same moment collide: one of them comes again."""
    for last in (False, True):
        try:
            found: dict[str, Any] = await collection.find_one_and_update(
                {"_id": id}, pipeline, upsert=True, return_document=ReturnDocument.AFTER, maxTimeMS=BOUND
            )
            return found
        except DuplicateKeyError as error:
            if last:
                raise from_driver(error) from error
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
    raise AssertionError("unreachable")


def _taking(rate: Rate, want: int) -> list[dict[str, Any]]:
    """Fills the bucket to now, then takes from it. A refusal keeps what was filled in, or slow buckets would never fill."""
    elapsed = {"$divide": [{"$subtract": ["$$NOW", {"$ifNull": ["$at", "$$NOW"]}]}, 1000]}
    filled = {"$add": [{"$ifNull": ["$tokens", rate.limit]}, {"$multiply": [elapsed, rate.per_second]}]}
    kept = round(rate.seconds * 1000) + 60_000
    return [
        {"$set": {"tokens": {"$min": [rate.limit, filled]}, "at": "$$NOW"}},
        {"$set": {"granted": {"$max": [0, {"$min": [want, {"$floor": "$tokens"}]}]}}},
        # Longer than it takes to fill: a bucket that is deleted comes back full.
        {"$set": {"tokens": {"$subtract": ["$tokens", "$granted"]}, "expires_at": {"$add": ["$$NOW", kept]}}},
    ]
