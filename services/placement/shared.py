"""The model `shared`: one database for all, in which every record carries its tenant's id.

The application enforces it, by three guards that know nothing of each other; MongoDB itself cannot tell tenants apart there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema
from services.placement.meta import COLLECTION as META
from services.placement.provider import Handle, unavailable

BATCH = 1_000
"""Documents of one deletion."""


class SharedProvider:
    """A `TenantDatabaseProvider` over the deployment's own database."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._database = database

    @asynccontextmanager
    async def handle(self, tenant: Tenant, placement: Placement) -> AsyncIterator[Handle]:
        """See `TenantDatabaseProvider`."""
        if placement.cluster != "default" or placement.database != self._database:
            raise unavailable("The app's data is kept in a shared database that this server does not have")
        yield Handle(self._deployment, self._database)

    administer = handle

    async def provision(self, tenant: Tenant, placement: Placement, schemas: Iterable[CollectionSchema]) -> Placement:
        """See `TenantDatabaseProvider`."""
        async with self.handle(tenant, placement) as handle:
            await handle.ensure(schemas)
        return placement

    async def deprovision(self, tenant: Tenant, placement: Placement) -> int:
        """See `TenantDatabaseProvider`."""
        async with self.handle(tenant, placement) as handle:
            return await purge(handle.raw, tenant.id)

    async def ping(self, tenant: Tenant, placement: Placement) -> bool:
        """See `TenantDatabaseProvider`."""
        return await self._deployment.ping()


async def purge(raw: Any, app_id: str) -> int:
    """Deletes a tenant's records from every collection that there is, a batch at a time; how many there were."""
    return sum([await empty(raw[name], app_id) for name in await collections(raw)])


async def empty(collection: Any, app_id: str) -> int:
    """Deletes a tenant's records from one collection, a batch at a time; how many there were."""
    own = {"app_id": app_id}
    gone = 0
    try:
        while True:
            cursor = collection.find(own, {"_id": 1}, sort=[("_id", 1)], limit=BATCH, max_time_ms=5000)
            ids = [document["_id"] for document in await cursor.to_list()]
            if not ids:
                return gone
            gone += int((await collection.delete_many({**own, "_id": {"$in": ids}})).deleted_count)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error


async def collections(raw: Any) -> list[str]:
    """The collections of a database that hold records: all that there are, so that none can be forgotten."""
    try:
        names = await raw.list_collection_names(filter={"type": "collection"})
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    return sorted(name for name in names if not name.startswith("system.") and name != META)
