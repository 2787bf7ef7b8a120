"""Signing keys in the control plane's database, private halves sealed."""

from __future__ import annotations

from services.authentication.keys import KeyRecord
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver

COLLECTION = "signing_keys"


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

    async def prepare(self) -> None:
        """Creates the index by which keys are loaded."""
        try:
            await self._deployment.client[self._control][COLLECTION].create_index([("app_id", 1)], name="app_id_1")
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
