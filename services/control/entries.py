"""Entries of the catalogue as the servers read them: one by one when they are needed, and never all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from hooks.errors import Unavailable
from hooks.tenant import Tenant
from services.control.domains import COLLECTION as DOMAINS
from services.control.domains import SERVED
from services.control.snapshot import to_tenant
from services.control.tenants import COLLECTION, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver

log = structlog.get_logger()

LATELY = timedelta(seconds=60)
"""How far back changes are asked for: more than clocks differ."""
MOST_CHANGES = 10_000
BATCH = 1_000


class Entries:
    """Reads tenants from the control plane's database."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def get(self, id: str) -> Tenant | None:
        """The tenant, or None.

        Raises:
            Unavailable: the database cannot be asked, or what it says of this tenant cannot be understood.
        """
        return await self._one({"_id": id})

    async def with_public_key(self, key: str) -> Tenant | None:
        """The tenant that has this public key, as `get`."""
        return await self._one({"public_keys": key})

    async def with_host(self, host: str) -> Tenant | None:
        """The tenant that has proved this host to be its own, as `get`."""
        with _translated():
            domains = self._deployment.client[self._control][DOMAINS]
            found = await domains.find_one({"host": host, "state": {"$in": [*SERVED]}}, {"app_id": 1}, max_time_ms=2000)
        return None if found is None else await self.get(found["app_id"])

    async def some(self, most: int) -> list[Tenant]:
        """Some tenants, those that were changed last. One that cannot be understood is left out: it stops nobody else."""
        found = []
        with _translated():
            async for document in self._documents.find({}, sort=[("updated_at", -1)], limit=most, max_time_ms=30_000):
                try:
                    found.append(_understood(document))
                except Unavailable:
                    continue
        return found

    async def epochs(self, ids: list[str]) -> Mapping[str, int]:
        """The epochs of those of the tenants that there are."""
        epochs: dict[str, int] = {}
        with _translated():
            for start in range(0, len(ids), BATCH):
                chosen = {"_id": {"$in": ids[start : start + BATCH]}}
                async for document in self._documents.find(chosen, {"epoch": 1}, max_time_ms=5_000):
                    epochs[document["_id"]] = document.get("epoch", 1)
        return epochs

    async def changed_lately(self) -> list[tuple[str, int]]:
        """The ids and epochs of tenants that were changed in the last minute, the last ones first."""
        chosen = {"updated_at": {"$gte": datetime.now(UTC) - LATELY}}
        with _translated():
            cursor = self._documents.find(
                chosen, {"epoch": 1}, sort=[("updated_at", -1)], limit=MOST_CHANGES, max_time_ms=2_000
            )
            return [(document["_id"], document.get("epoch", 1)) async for document in cursor]

    async def _one(self, chosen: Mapping[str, Any]) -> Tenant | None:
        with _translated():
            found = await self._documents.find_one(chosen, max_time_ms=2000)
        return None if found is None else _understood(found)

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _understood(document: Mapping[str, Any]) -> Tenant:
    try:
        return to_tenant(document)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        log.exception("catalogue: an app's configuration cannot be understood", tenant=document["_id"])
        raise Unavailable(f"The app '{document['_id']}' has a configuration that cannot be understood") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
