"""Targets: the tenants that get copies, whatever state they are in, as long as they are not being deleted (SY-9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import structlog

from hooks.tenant import Placement, Tenant
from services.control.snapshot import to_tenant
from services.control.tenants import COLLECTION, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.store import Document

log = structlog.get_logger()

STATES: Final = ("provisioning", "ready", "suspended", "migrating", "failed")
_FIELDS: Final = dict.fromkeys(
    ("name", "status", "epoch", "placement", "control_plane", "sync_exclude", "is_active", "migration"), 1
)
"""What the sync knows of a tenant: thousands of them are read in one round."""
UNREADABLE: Final = "unreadable"
"""The model, which nobody provides, of tenants whose entry has mistakes."""


class Targets:
    """Reads the catalogue."""

    def __init__(self, deployment: Deployment, *, database: str, control_plane: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)
        self._control_plane = control_plane

    async def all(self, after: str = "") -> AsyncIterator[Tenant]:
        """All of them in the order of their ids, from behind one of them on."""
        chosen: dict[str, Any] = {"status": {"$in": [*STATES]}, "control_plane": {"$ne": True}, "_id": {"$gt": after}}
        try:
            async for found in self._tenants.find(chosen, _FIELDS, sort=[("_id", 1)], max_time_ms=60_000):
                yield _target(found)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def get(self, id: str) -> Tenant | None:
        """One of them; None for a tenant that gets no copies."""
        found = await self._one(id)
        if found is None or found.get("control_plane") or found.get("status", "ready") not in STATES:
            return None
        return _target(found)

    async def count(self) -> int:
        """How many there are."""
        chosen = {"status": {"$in": [*STATES]}, "control_plane": {"$ne": True}}
        try:
            return int(await self._tenants.count_documents(chosen, maxTimeMS=2000))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def control_plane(self) -> Tenant:
        """The tenant from which they get them.

        Raises:
            LookupError: there is none yet.
        """
        found = await self._one(self._control_plane)
        if found is None:
            raise LookupError("There is no control plane yet")
        return to_tenant(found)

    async def _one(self, id: str) -> Document | None:
        try:
            found: Document | None = await self._tenants.find_one({"_id": id}, _FIELDS, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return found

    @property
    def _tenants(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _target(found: Document) -> Tenant:
    """The tenant of an entry. One that cannot be read is an error of that tenant alone: it is where nobody can reach it."""
    try:
        return to_tenant(found)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        log.warning("sync: a tenant's entry cannot be read", tenant=found["_id"], error=type(error).__name__)
        return Tenant(id=found["_id"], name=str(found.get("name")), placement=Placement(model=UNREADABLE))
