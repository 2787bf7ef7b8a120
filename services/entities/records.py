"""Entities as Roost itself reads and writes them: behind the services, inside one tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from bson import ObjectId

from hooks.context import Record
from hooks.errors import BadRequest
from hooks.tenant import Tenant
from services.entities.registry import REVISION, Entity
from services.isolation import Isolation, ScopedCollection
from services.users import COLLECTION as USERS

MOST_FOUND: Final = 10_000

_T = TypeVar("_T")


class Entities:
    """The entities of whichever tenant is named."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def of(self, tenant: Tenant, entity: Entity) -> ScopedCollection:
        """The tenant's entities of one kind."""
        return self._isolation.collection(tenant, entity.collection)

    async def get(self, tenant: Tenant, entity: Entity, id: Any) -> Record | None:
        """The entity that has the id; what is no id is none's."""
        if not isinstance(id, (str, ObjectId)):
            return None
        try:
            return await self.first(tenant, entity, {"_id": id})
        except BadRequest:
            return None

    async def first(self, tenant: Tenant, entity: Entity, filter: Mapping[str, Any]) -> Record | None:
        """An entity that matches."""
        found = await self.of(tenant, entity).find(filter, limit=1)
        return found[0] if found else None

    async def find(self, tenant: Tenant, entity: Entity, filter: Mapping[str, Any]) -> list[Record]:
        """All that match, within the bound that keeps a tenant from asking for everything at once."""
        return await self.of(tenant, entity).find(filter, limit=MOST_FOUND)

    async def add(self, tenant: Tenant, entity: Entity, record: Record) -> Record:
        """A new entity.

        Raises:
            Conflict: another has a value that must be unique.
        """
        now = datetime.now(UTC)
        made = {"_id": ObjectId(), **record, REVISION: 1, "created_at": now, "updated_at": now}
        await self.of(tenant, entity).insert([made])
        return made

    async def change(
        self, tenant: Tenant, entity: Entity, filter: Mapping[str, Any], update: Mapping[str, Any]
    ) -> Record | None:
        """Applies update operators to one entity, whose revision counts it; returns it as it is afterwards."""
        return await self.of(tenant, entity).find_one_and_update(filter, counted(update))

    async def change_all(
        self, tenant: Tenant, entity: Entity, filter: Mapping[str, Any], update: Mapping[str, Any]
    ) -> None:
        """Applies update operators to all entities that match."""
        await self.of(tenant, entity).update_many(filter, counted(update))

    async def existing(self, tenant: Tenant, entity: Entity, ids: Iterable[str]) -> dict[str, Record]:
        """Those of the ids that there are, by id."""
        wanted = [*dict.fromkeys(ids)]
        found = await self.find(tenant, entity, {"_id": {"$in": wanted}}) if wanted else []
        return {str(record["_id"]): record for record in found}

    async def has_user(self, tenant: Tenant, user_id: str) -> bool:
        """Whether there is a user of this id."""
        return await self._isolation.collection(tenant, USERS).count({"_id": user_id}) > 0

    async def transaction(self, tenant: Tenant, work: Callable[[], Awaitable[_T]]) -> _T:
        """Does work on the tenant's entities whose effects are kept all together or not at all."""
        return await self._isolation.transaction(tenant, work)


def counted(update: Mapping[str, Any]) -> dict[str, Any]:
    """The update operators, which also count as a write of the entity."""
    return {
        **update,
        "$set": {**update.get("$set", {}), "updated_at": datetime.now(UTC)},
        "$inc": {**update.get("$inc", {}), REVISION: 1},
    }
