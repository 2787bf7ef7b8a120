"""What a server keeps, deleted: for tests and trials."""

from __future__ import annotations

import asyncio

import structlog

from hooks.errors import Unavailable
from server.backend import Backend
from services.control.tenants import control_database
from services.placement.placements import SHARED

log = structlog.get_logger()


async def delete_all(backend: Backend) -> None:
    """Deletes the databases of all apps and of the server; what is on a cluster that cannot be reached stays, and is said."""
    await delete_placed(backend)
    names = (backend.settings.database, control_database(backend.settings.database))
    await asyncio.gather(*(backend.deployment.client.drop_database(name) for name in names))


async def delete_placed(backend: Backend) -> None:
    """Deletes the databases of apps that are not in the server's own."""
    async for tenant in backend.tenants.all():
        if tenant.placement.model != SHARED:
            try:
                await backend.placements.provider(tenant.placement).deprovision(tenant, tenant.placement)
            except Unavailable as error:
                log.warning("an app's database was not deleted", tenant=tenant.id, error=error.message)
