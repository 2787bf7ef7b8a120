"""The catalogue's side of a move: the entry `migration` of a tenant, which every process goes by.

`{operation, phase, source, target}`: `copying` is written at the source, `frozen` nowhere, `done` at the target; `closed` stays
for ever. Every change asks for what it was before, so that of two processes that believe to lead a move one alone does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pymongo import ReturnDocument

from hooks.errors import Conflict
from hooks.tenant import Placement, Tenant
from services.control.snapshot import CLOSED, FROZEN, to_tenant
from services.control.tenants import COLLECTION, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver

COPYING = "copying"
DONE = "done"


@dataclass(frozen=True, slots=True)
class Migration:
    """How far a tenant's move is."""

    tenant: Tenant
    operation: str
    phase: str
    source: Placement
    target: Placement


class Entries:
    """The entries `migration` of all tenants."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def read(self, app_id: str) -> Migration | None:
        """The tenant's last move, whether it goes on or not; None if there was none, or it is finalized."""
        try:
            found = await self._tenants.find_one({"_id": app_id}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        is_over = found is None or found.get("migration", {}).get("phase", CLOSED) == CLOSED
        return None if is_over else _to_migration(found)

    async def is_closed(self, app_id: str, operation: str) -> bool:
        """Whether the tenant's last move is this one, and nothing is left of it."""
        chosen = {"_id": app_id, "migration.operation": operation, "migration.phase": CLOSED}
        try:
            return await self._tenants.find_one(chosen, {"_id": 1}, max_time_ms=2000) is not None
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def begin(self, tenant: Tenant, operation: str, target: Placement) -> Migration:
        """The tenant begins to move; it is still written where it is (8.2.11, step 2).

        Raises:
            Conflict: it is not ready, or was changed in the meantime.
        """
        source = tenant.placement
        entry = {"operation": operation, "phase": COPYING, "source": asdict(source), "target": asdict(target)}
        return await self._change(
            {"_id": tenant.id, "epoch": tenant.epoch, "status": "ready"}, {"status": "migrating", "migration": entry}
        )

    async def freeze(self, move: Migration) -> Migration:
        """Nobody writes from now on, as soon as everybody has heard of it."""
        return await self._change(_of(move, COPYING), {"migration.phase": FROZEN})

    async def thaw(self, move: Migration) -> Migration:
        """The tenant is written at the source again."""
        return await self._change(_of(move, FROZEN), {"migration.phase": COPYING})

    async def flip(self, move: Migration) -> Migration:
        """The tenant's data is at the target from now on; still nobody writes (8.2.11, step 7).

        Raises:
            Conflict: the tenant was changed since it was frozen: what its services need may be another thing now.
        """
        frozen = {**_of(move, FROZEN), "epoch": move.tenant.epoch, "placement": asdict(move.source)}
        return await self._change(frozen, {"placement": asdict(move.target)})

    async def open(self, move: Migration) -> Migration:
        """The tenant is written at the target."""
        chosen = {**_of(move, FROZEN), "placement": asdict(move.target)}
        return await self._change(chosen, {"status": "ready", "migration.phase": DONE})

    async def abandon(self, move: Migration) -> Migration:
        """The move is given up; the tenant stays where it is."""
        chosen = {"_id": move.tenant.id, "migration.operation": move.operation, "placement": asdict(move.source)}
        return await self._change(chosen, {"status": "ready", "migration.phase": "abandoned"})

    async def close(self, move: Migration) -> None:
        """Nothing is left of the move; that there was one stays known, to processes that were away meanwhile."""
        closed = {"operation": move.operation, "phase": CLOSED}
        chosen = {"_id": move.tenant.id, "migration.operation": move.operation}
        try:
            await self._tenants.update_one(
                chosen, {"$set": {"migration": closed}, "$inc": {"epoch": 1}, "$currentDate": {"updated_at": True}}
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _change(self, chosen: Mapping[str, Any], values: Mapping[str, Any]) -> Migration:
        change = {"$set": dict(values), "$inc": {"epoch": 1}, "$currentDate": {"updated_at": True}}
        try:
            found = await self._tenants.find_one_and_update(dict(chosen), change, return_document=ReturnDocument.AFTER)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if found is None:
            raise Conflict("The app was changed while it was moved")
        return _to_migration(found)

    @property
    def _tenants(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _of(move: Migration, phase: str) -> dict[str, Any]:
    return {"_id": move.tenant.id, "migration.operation": move.operation, "migration.phase": phase}


def _to_migration(document: Mapping[str, Any]) -> Migration:
    entry = document["migration"]
    return Migration(
        to_tenant(document),
        entry["operation"],
        entry["phase"],
        Placement(**entry["source"]),
        Placement(**entry["target"]),
    )
