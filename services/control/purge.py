"""Purging: everything that is kept of a tenant, in whichever collection, goes with it (CP-25, CP-28).

Of the tenants' database every collection is visited, whoever made it: those of Roost, of declared services, also of such that
are declared no longer, and of plug-ins. Of the control plane's database each collection has a rule here, and a test fails for
one that has none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from hooks.errors import Forbidden
from hooks.tenancy import FIELD
from hooks.tenant import Tenant
from services.control.domains import COLLECTION as DOMAINS
from services.control.domains import Domains
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.placement.placements import SHARED, Placements
from services.placement.shared import BATCH, collections, empty

CONTROL_FIELDS: Final[Mapping[str, str]] = {
    "tenant_secrets": "_id.app_id",
    "signing_keys": "app_id",
    DOMAINS: "app_id",
    "connection_slots": "_id",
    "sync_state": "target",
    "rate_buckets": "_id.app_id",
    "quota_counters": "_id.app_id",
    "jobs": "app_id",
    "bus": "app_id",
    "tails": "app_id",
    "tail_lines": "app_id",
}
"""By collection of the control plane's database: the field that names the tenant whose document it is."""
CONTROL_KEPT: Final = frozenset(
    {
        "tenants",  # The entry itself, which the tombstone takes the place of.
        "tombstones",
        "creators",  # Users of the control plane.
        "tenant_operations",  # How the tenant came and went.
        "tenant_operation_events",
        "sync_events",  # What the control plane has to tell, to whomever.
        "sync_runs",  # How often whom was compared.
        "own_rules",  # These and what follows are about the server and its processes.
        "nodes",
        "job_schedules",
        "bus",  # Events on their way to other processes, which the database deletes by itself.
        "tails",
    }
)
"""Collections in which nothing goes with a tenant."""
KEYS: Final = ("signing_keys", "tenant_secrets")
"""What makes unreadable whatever was sealed or signed by it."""
LOGINS: Final = ("sessions", "api_keys", "account_tokens", "identities", "oauth_codes")
"""Collections of the tenant by which somebody may log in."""

Progress = Callable[[str, int], Awaitable[None]]
"""Hears of a collection, and how many documents of it are gone."""


class Purge:
    """Deletes a tenant's documents, a batch at a time: what was interrupted goes on where it ended."""

    def __init__(self, deployment: Deployment, placements: Placements, *, database: str) -> None:
        self._deployment = deployment
        self._placements = placements
        self._domains = Domains(deployment, database=database)
        self._control = control_database(database)

    async def collections(self, tenant: Tenant) -> list[str]:
        """The collections of the database in which the tenant's data is kept."""
        async with self._data(tenant) as database:
            return await collections(database)

    async def logins(self, tenant: Tenant) -> None:
        """Deletes everything by which somebody might log in: first of all, so that nobody comes back meanwhile."""
        known = await self.collections(tenant)
        for name in LOGINS:
            if name in known:
                await self._empty(tenant, name)

    async def data(self, tenant: Tenant, progress: Progress) -> None:
        """Deletes the tenant's documents in every collection of its database; one of its own goes as a whole after that."""
        for name in await self.collections(tenant):
            count = await self._empty(tenant, name)
            if count:
                await progress(name, count)
        if tenant.placement.model != SHARED:
            await self._placements.provider(tenant.placement).deprovision(tenant, tenant.placement)
        if tenant.leftover is not None:
            await self._placements.provider(tenant.leftover).deprovision(tenant, tenant.leftover)

    async def control(self, tenant: Tenant, *names: str) -> None:
        """Deletes what these collections of the control plane's database have of the tenant; without names, all of them."""
        _check(tenant)
        database = self._deployment.client[self._control]
        try:
            for name in names or CONTROL_FIELDS:
                if name == DOMAINS:
                    # Their hosts stay in quarantine, in nobody's name (SD-7).
                    await self._domains.remove_all(tenant.id)
                else:
                    await database[name].delete_many({CONTROL_FIELDS[name]: tenant.id})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def left(self, tenant: Tenant) -> dict[str, int]:
        """What is still there, by collection."""
        found: dict[str, int] = {}
        control = self._deployment.client[self._control]
        try:
            # A database of the tenant's own is gone, and its credentials with it.
            if tenant.placement.model == SHARED:
                async with self._data(tenant) as data:
                    for name in await collections(data):
                        if count := await data[name].count_documents({FIELD: tenant.id}, limit=BATCH, maxTimeMS=2000):
                            found[name] = count
            for name, field in CONTROL_FIELDS.items():
                if count := await control[name].count_documents({field: tenant.id}, limit=BATCH, maxTimeMS=2000):
                    found[name] = count
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return found

    async def _empty(self, tenant: Tenant, name: str) -> int:
        _check(tenant)
        async with self._data(tenant) as database:
            return await empty(database[name], tenant.id)

    @asynccontextmanager
    async def _data(self, tenant: Tenant) -> AsyncIterator[Any]:
        """The database in which the tenant's data is kept."""
        provider = self._placements.provider(tenant.placement)
        async with provider.administer(tenant, tenant.placement) as handle:
            yield handle.raw


def _check(tenant: Tenant) -> None:
    if tenant.is_control_plane:
        raise Forbidden("Cannot delete the control plane")
