"""Signing keys in the control plane's database, private halves sealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import IndexModel

from services.authentication.keys import VERIFYING, KeyRecord
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes

COLLECTION = "signing_keys"
KEPT = 7 * 24 * 60 * 60
"""Seconds for which a retired key is still listed."""


class MongoKeyStore:
    """The `KeyStore` of a deployment."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def load(self, app_id: str) -> list[KeyRecord]:
        """All keys of one tenant."""
        try:
            cursor = self._deployment.client[self._control][COLLECTION].find({"app_id": app_id}, max_time_ms=2000)
            return [KeyRecord.from_document(document) async for document in cursor]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def insert(self, record: KeyRecord) -> None:
        """Keeps a new key."""
        try:
            await self._deployment.client[self._control][COLLECTION].insert_one(record.to_document())
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def retire(self, app_id: str, kids: Sequence[str], at: datetime) -> None:
        """Has these keys of a tenant only verify, and that until `at`, or until an earlier moment that is set."""
        chosen: dict[str, Any] = {"_id": {"$in": [*kids]}, "app_id": app_id}
        later: dict[str, Any] = {"$or": [{"retires_at": None}, {"retires_at": {"$gt": at}}]}
        change = {"$set": {"state": VERIFYING, "retires_at": at}}
        try:
            await self._deployment.client[self._control][COLLECTION].update_many({**chosen, **later}, change)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def retiring(self, now: datetime) -> Sequence[str]:
        """The ids of the tenants that have a key which will retire after `now`."""
        keys = self._deployment.client[self._control][COLLECTION]
        try:
            found: list[str] = await keys.distinct("app_id", {"retires_at": {"$gt": now}})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return found

    async def prepare(self) -> None:
        """Creates the indexes by which keys are loaded, and retired ones deleted some time later."""
        await ensure_indexes(
            self._deployment.client[self._control][COLLECTION],
            IndexModel([("app_id", 1)], name="app_id_1"),
            IndexModel([("retires_at", 1)], name="retired", expireAfterSeconds=KEPT),
        )
